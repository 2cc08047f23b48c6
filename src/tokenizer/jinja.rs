//! Renders a template as transformers does (`utils/chat_template_utils.py`, `_compile_jinja_template`):
//! whole-line blocks leave no trace, `tojson` does not escape HTML, `raise_exception` and `strftime_now`
//! exist, and `{% generation %}` marks a span without changing it.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State};

use super::python::{self, DateTime, JsonStyle};

/// Instructions, and data in steps of 64 bytes, that one rendering may cost (see
/// [`Environment::set_fuel`]): thousands of messages, but an end to a template that has none.
const FUEL: u64 = 4_000_000;

/// What a template said with `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Only says whether `source` is a template.
pub(super) fn check(source: &str) -> Result<(), Error> {
    let source = without_generation_tags(source);
    environment(None)?.template_from_str(&source).map(drop)
}

/// `date` is what `strftime_now` tells: a day in ISO 8601, or any text, which it gives as it is.
pub(super) fn render(source: &str, context: Value, date: Option<&str>) -> Result<String, Error> {
    let source = without_generation_tags(source);
    environment(date)?
        .template_from_str(&source)?
        .render(context)
}

/// JSON as the template sees it.
pub(super) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => ().into(),
        Json::Bool(yes) => (*yes).into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(k, v)| (k.as_str(), value(v))))
        }
    }
}

fn environment<'source>(date: Option<&str>) -> Result<Environment<'source>, Error> {
    let mut env = Environment::new();
    env.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    env.set_fuel(Some(FUEL));
    env.set_formatter(|out: &mut Output, _: &mut State, value: &Value| {
        match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&python::str(value)?),
        }
        .map_err(Error::from)
    });
    env.set_unknown_method_callback(python::method);
    env.add_filter("string", |value: &Value| python::str(value));
    env.add_filter("tojson", to_json);
    env.add_function("raise_exception", |message: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    if let Some(date) = date.map(str::to_owned) {
        env.add_function("strftime_now", move |format: &str| {
            DateTime::parse(&date).map_or_else(|| date.clone(), |at| at.format(format))
        });
    }
    Ok(env)
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson takes two separators",
            ));
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let style = JsonStyle {
        // A page of spaces is enough, and a template cannot ask for gigabytes of them.
        indent: indent.map(|n| n.min(64)),
        item_separator,
        key_separator,
        ensure_ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::json(value, &style)
}

/// Writes `{% generation %}` … `{% endgeneration %}`, a tag of transformers that minijinja does not
/// know, as `{% with %}` … `{% endwith %}`: likewise a scope of its own and nothing else.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let sides = ['-', '+'];
        let inside = &tag[..end];
        let replacement = match inside.trim_matches(sides).trim() {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        let name = inside.trim_matches(sides).trim();
        out.push_str(&inside.replacen(name, replacement, 1));
        rest = &tag[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    fn rendered(source: &str) -> String {
        render(source, context! { x => "<a & 'b'>" }, Some("2025-07-08")).unwrap()
    }

    #[test]
    fn whole_line_blocks_leave_no_trace() {
        assert_eq!(
            rendered("a\n  {% if true %}\nb\n  {% endif %}\nc\n"),
            "a\nb\nc"
        );
    }

    #[test]
    fn generation_is_a_scope_and_nothing_else() {
        let source =
            "{% set y = 1 %}{%- generation -%} {% set y = 2 %}{{ y }} {%- endgeneration %}{{ y }}";
        assert_eq!(rendered(source), "21");
        assert_eq!(
            rendered("{%generation%}a{%endgeneration%}{{ '{% generationX' }}"),
            "a{% generationX"
        );
    }

    #[test]
    fn json_as_python_dumps_it() {
        assert_eq!(rendered("{{ x | tojson }}"), "\"<a & 'b'>\"");
        assert_eq!(
            rendered("{{ {'a': [1, 2.0, none, true], 'é': {}} | tojson }}"),
            "{\"a\": [1, 2.0, null, true], \"é\": {}}"
        );
        assert_eq!(
            rendered("{{ {'b': [1], 'a': []} | tojson(indent=2, sort_keys=true) }}"),
            "{\n  \"a\": [],\n  \"b\": [\n    1\n  ]\n}"
        );
        assert_eq!(
            rendered("{{ [1, {'a': 'é😀'}] | tojson(separators=(',', ':'), ensure_ascii=true) }}"),
            "[1,{\"a\":\"\\u00e9\\ud83d\\ude00\"}]"
        );
    }

    #[test]
    fn loops_can_be_left() {
        assert_eq!(
            rendered(
                "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
            ),
            "01"
        );
    }

    #[test]
    fn an_endless_template_ends() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        let error = render(source, context! {}, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
        let source = "{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
        assert!(render(source, context! {}, None).is_err());
    }
}
