//! What chat templates expect of Python: how values print, `json.dumps`, `strftime`, string methods.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Deeper values than this come from no JSON; a template can nest them until a stack overflows.
const MAX_DEPTH: usize = 128;

/// `str(value)`; an undefined value prints as nothing, as in Jinja.
pub(super) fn str(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.as_str() {
        Some(text) => out.push_str(text),
        None if value.is_undefined() => {}
        None => write_repr(&mut out, value, 0)?,
    }
    Ok(out)
}

/// `repr(value)`
fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::String => write_str_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Number => write_number(out, value),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq if !value.to_string().starts_with('(') => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        // True, None and the like print the Python way already.
        _ => write!(out, "{value}").unwrap_or_default(),
    }
    Ok(())
}

fn check_depth(depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "value is nested too deeply",
        ));
    }
    Ok(())
}

/// `repr` of a string: single quotes unless only they stand inside; what does not print is escaped.
fn write_str_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        let code = u32::from(c);
        let written = match c {
            '\n' => write!(out, "\\n"),
            '\r' => write!(out, "\\r"),
            '\t' => write!(out, "\\t"),
            '\\' => write!(out, "\\\\"),
            _ if c == quote => write!(out, "\\{c}"),
            _ if is_printable(c) => write!(out, "{c}"),
            _ if code < 0x100 => write!(out, "\\x{code:02x}"),
            _ if code < 0x1_0000 => write!(out, "\\u{code:04x}"),
            _ => write!(out, "\\U{code:08x}"),
        };
        written.unwrap_or_default();
    }
    out.push(quote);
}

/// `str.isprintable` of one character. Rust's own escaping (`\u{…}`, `\0`) leaves the same categories
/// out; it escapes combining characters too, but only in first place.
fn is_printable(c: char) -> bool {
    let mut buffer = ['a'; 2];
    buffer[1] = c;
    let text: String = buffer.iter().collect();
    let mut escaped = text.escape_debug().skip(1);
    !(escaped.next() == Some('\\') && matches!(escaped.next(), Some('u' | '0')))
}

/// Integers as they are, floats as `repr` writes them: the shortest digits that read back the same,
/// with an exponent below 1e-4 and from 1e16 on.
fn write_number(out: &mut String, value: &Value) {
    let written = match f64::try_from(value.clone()) {
        Ok(x) if !value.is_integer() => {
            let scientific = format!("{x:e}");
            match scientific.split_once('e') {
                _ if x.is_nan() => write!(out, "nan"),
                _ if x.is_infinite() => write!(out, "{}", if x < 0.0 { "-inf" } else { "inf" }),
                Some((digits, exponent)) => match exponent.parse::<i32>() {
                    Ok(e) if !(-4..16).contains(&e) => {
                        let sign = if e < 0 { '-' } else { '+' };
                        write!(out, "{digits}e{sign}{:02}", e.abs())
                    }
                    _ => write!(out, "{x:?}"),
                },
                None => write!(out, "{x:?}"),
            }
        }
        _ => write!(out, "{value}"),
    };
    written.unwrap_or_default();
}

/// How `json.dumps` lays out and escapes.
pub(super) struct JsonStyle {
    pub indent: Option<usize>,
    pub item_separator: String,
    pub key_separator: String,
    pub ensure_ascii: bool,
    pub sort_keys: bool,
}

/// `json.dumps(value)`
pub(super) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_json(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => {
            let start = out.len();
            write_number(out, value);
            let word = match &out[start..] {
                "nan" => "NaN",
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                _ => return Ok(()),
            };
            out.replace_range(start.., word);
        }
        ValueKind::String => write_json_str(out, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.collect::<Vec<_>>();
            write_container(out, style, depth, ['[', ']'], &items, |out, item| {
                write_json(out, item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys = value.try_iter()?.collect::<Vec<_>>();
            if style.sort_keys {
                keys.sort();
            }
            write_container(out, style, depth, ['{', '}'], &keys, |out, key| {
                let mut name = String::new();
                match key.kind() {
                    ValueKind::String => name.push_str(key.as_str().unwrap_or_default()),
                    _ => write_json(&mut name, key, style, depth + 1)?,
                }
                write_json_str(out, &name, style);
                out.push_str(&style.key_separator);
                write_json(out, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{kind} cannot be written as JSON"),
            ));
        }
    }
    Ok(())
}

fn write_container(
    out: &mut String,
    style: &JsonStyle,
    depth: usize,
    [open, close]: [char; 2],
    items: &[Value],
    mut write_item: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, depth: usize| {
        if let Some(indent) = style.indent
            && !items.is_empty()
        {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    out.push(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(&style.item_separator);
        }
        new_line(out, depth + 1);
        write_item(out, item)?;
    }
    new_line(out, depth);
    out.push(close);
    Ok(())
}

fn write_json_str(out: &mut String, text: &str, style: &JsonStyle) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            _ if c < ' '
                || (style.ensure_ascii && !c.is_ascii())
                || c == '\u{7f}' && style.ensure_ascii =>
            {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// What `str` methods call whitespace (`str.isspace`): Unicode's, and four separators of old.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's methods on values: those whose edge cases minijinja's own differ in, or that it lacks, and
/// then its own.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let argument = |i: usize| args.get(i).and_then(Value::as_str);
    match (value.as_str(), name, args.len()) {
        (Some(text), "strip", 0) => Ok(text.trim_matches(is_space).into()),
        (Some(text), "lstrip", 0) => Ok(text.trim_start_matches(is_space).into()),
        (Some(text), "rstrip", 0) => Ok(text.trim_end_matches(is_space).into()),
        (Some(text), "isspace", 0) => Ok((!text.is_empty() && text.chars().all(is_space)).into()),
        (Some(text), "removeprefix", 1) => Ok(argument(0)
            .and_then(|prefix| text.strip_prefix(prefix))
            .unwrap_or(text)
            .into()),
        (Some(text), "removesuffix", 1) => Ok(argument(0)
            .and_then(|suffix| text.strip_suffix(suffix))
            .unwrap_or(text)
            .into()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// A day, and a time if there is one, for `strftime`.
#[derive(Debug, Clone, Copy)]
pub(super) struct DateTime {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl DateTime {
    /// Reads ISO 8601: `2025-07-08`, or with a time, `2025-07-08T09:05:00`, of which a fraction and a
    /// zone are not looked at. `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once(['T', ' ']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let [year, month, day] = fields::<3>(date, '-')?;
        let mut at = Self {
            year: i32::try_from(year).ok()?,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        };
        if date.len() != 10
            || !(1..=12).contains(&month)
            || !(1..=at.days_in_month()).contains(&day)
        {
            return None;
        }
        if let Some(time) = time {
            [at.hour, at.minute, at.second] = fields(time.get(..8)?, ':')?;
            if at.hour > 23 || at.minute > 59 || at.second > 60 {
                return None;
            }
        }
        Some(at)
    }

    fn is_leap_year(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_in_month(self) -> u32 {
        match self.month {
            2 => 28 + u32::from(self.is_leap_year()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// 1 for the first of January.
    fn day_of_year(self) -> u32 {
        (1..self.month)
            .map(|month| Self { month, ..self }.days_in_month())
            .sum::<u32>()
            + self.day
    }

    /// 0 for Sunday.
    fn weekday(self) -> usize {
        let before = self.year - 1;
        let days =
            before * 365 + before / 4 - before / 100 + before / 400 + self.day_of_year() as i32;
        days.rem_euclid(7) as usize
    }

    /// C's `strftime` in the C locale; a `-` after the `%` leaves padding out. What it does not know
    /// stays as it is.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let directive = rest[1..].trim_start_matches('-');
            let bare = directive.len() < rest.len() - 1;
            let Some(letter) = directive.chars().next() else {
                break;
            };
            let (month, weekday) = (MONTHS[self.month as usize - 1], DAYS[self.weekday()]);
            let hour12 = (self.hour + 11) % 12 + 1;
            let mut number = |value: u32, pad: char, width: usize| match (bare, pad) {
                (true, _) => write!(out, "{value}"),
                (false, ' ') => write!(out, "{value:>width$}"),
                (false, _) => write!(out, "{value:0>width$}"),
            };
            let written = match letter {
                'd' => number(self.day, '0', 2),
                'e' => number(self.day, ' ', 2),
                'm' => number(self.month, '0', 2),
                'Y' => write!(out, "{}", self.year),
                'y' => number(self.year.rem_euclid(100) as u32, '0', 2),
                'j' => number(self.day_of_year(), '0', 3),
                'H' => number(self.hour, '0', 2),
                'I' => number(hour12, '0', 2),
                'M' => number(self.minute, '0', 2),
                'S' => number(self.second, '0', 2),
                'p' => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
                'B' => write!(out, "{month}"),
                'b' | 'h' => write!(out, "{}", &month[..3]),
                'A' => write!(out, "{weekday}"),
                'a' => write!(out, "{}", &weekday[..3]),
                'F' => write!(out, "{}", self.format("%Y-%m-%d")),
                'T' => write!(out, "{}", self.format("%H:%M:%S")),
                '%' => write!(out, "%"),
                other => write!(out, "%{}{other}", if bare { "-" } else { "" }),
            };
            written.unwrap_or_default();
            rest = &directive[letter.len_utf8()..];
        }
        out + rest
    }
}

/// `N` numbers with a separator between.
fn fields<const N: usize>(text: &str, separator: char) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for number in &mut numbers {
        let part = parts.next()?;
        if !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values printed by CPython 3.11.

    #[test]
    fn repr_as_python_writes_it() {
        let json: serde_json::Value = serde_json::from_str(
            r#"{"a": true, "b": null, "c": [1, 2.0, -0.5, 1e16, 1.5e-5, 123456789012345.0, 1e22, 0.0001],
                "d": "it's", "e": "\"", "f": "'\"", "g": "\n\t\u0000\u007f\u00a0é\u200b\ue000\ud83d\ude00\\", "h": {}}"#,
        )
        .unwrap();
        assert_eq!(
            str(&super::super::jinja::value(&json)).unwrap(),
            "{'a': True, 'b': None, 'c': [1, 2.0, -0.5, 1e+16, 1.5e-05, 123456789012345.0, 1e+22, 0.0001], \
             'd': \"it's\", 'e': '\"', 'f': '\\'\"', 'g': '\\n\\t\\x00\\x7f\\xa0é\\u200b\\ue000😀\\\\', 'h': {}}"
        );
    }

    #[test]
    fn combining_marks_print() {
        assert!(is_printable('\u{301}'));
        assert!(!is_printable('\u{ad}'));
        assert!(!is_printable('\u{2028}'));
        assert!(is_printable(' '));
    }

    #[test]
    fn strftime_as_c_does_it() {
        let day = DateTime::parse("2024-02-29").unwrap();
        assert_eq!(day.format("%d %B %Y"), "29 February 2024");
        assert_eq!(
            day.format("%a %A %b %j %-j %y %e %-d"),
            "Thu Thursday Feb 060 60 24 29 29"
        );
        let early = DateTime::parse("2025-07-08T09:05:00Z").unwrap();
        assert_eq!(
            early.format("%e|%-d|%I:%M %p|%F %T|100%%|%Q|%"),
            " 8|8|09:05 AM|2025-07-08 09:05:00|100%|%Q|%"
        );
        assert_eq!(DateTime::parse("2000-01-01").unwrap().weekday(), 6);
        assert_eq!(DateTime::parse("2026-11-23").unwrap().weekday(), 1);
        for wrong in [
            "",
            "8 July 2025",
            "2025-02-29",
            "2025-13-01",
            "2025-7-8",
            "2025-07-08T",
            "+025-07-08",
        ] {
            assert!(DateTime::parse(wrong).is_none(), "{wrong}");
        }
    }
}
