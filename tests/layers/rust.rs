//! Reads Rust: tokens, the paths among them, and what is wrong with those.

use std::collections::HashMap;
use std::path::Path;

use super::{BROWSER_CRATES, CLOCKS, HOST_MODULES, ROOMS};

/// An identifier or a punctuation mark; `::` is one mark.
struct Token {
    text: String,
    line: usize,
    /// How many inline `mod name { … }` it stands in.
    inline_modules: usize,
    /// Within `#[cfg(test)] mod …`.
    in_test: bool,
}

/// A path such as `crate::model::Model`, its `{…}` groups written out.
struct PathUse {
    segments: Vec<String>,
    line: usize,
    inline_modules: usize,
    in_test: bool,
}

/// What `src/lib.rs` re-exports: name → room.
pub fn reexports(lib: &str) -> HashMap<String, String> {
    let tokens = tokens(lib);
    paths(&tokens)
        .into_iter()
        .filter(|path| path.segments.len() > 1)
        .map(|path| {
            (
                path.segments.last().unwrap().clone(),
                path.segments[0].clone(),
            )
        })
        .collect()
}

/// The modules that a file declares.
pub fn modules(text: &str) -> Vec<String> {
    let tokens = tokens(text);
    tokens
        .windows(3)
        .filter(|w| w[0].text == "mod" && w[2].text == ";")
        .map(|w| w[1].text.clone())
        .collect()
}

/// What is wrong with the file at `path` (relative to the project), one line each.
pub fn violations(path: &Path, text: &str, reexports: &HashMap<String, String>) -> Vec<String> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    let room = parts[1].trim_end_matches(".rs");
    let allowed = match room {
        "lib" => None,
        "bin" => None,
        _ => match ROOMS.iter().find(|(name, _)| *name == room) {
            Some((_, allowed)) => Some(*allowed),
            None => return vec![format!("{}: no rule for room {room}", path.display())],
        },
    };
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut report =
        |line: usize, what: String| found.push(format!("{}:{line}: {what}", path.display()));

    for path in paths(&tokens) {
        if let Some(target) = target_room(&path, &parts, reexports) {
            match target {
                Err(name) => report(
                    path.line,
                    format!("crate::{name} is no room and no re-export of src/lib.rs"),
                ),
                Ok(target) if target == room => {}
                Ok(target)
                    if allowed.is_some_and(|allowed| !allowed.contains(&target.as_str())) =>
                {
                    report(path.line, format!("room {room} may not import {target}"));
                }
                Ok(target) if room == "bin" && target == "wasm" => {
                    report(path.line, "bin may not import wasm".into())
                }
                Ok(_) => {}
            }
        }
        let is_host = room == "bin" || room == "wasm" || path.in_test;
        if let [std, module, ..] = path.segments.as_slice()
            && std == "std"
            && HOST_MODULES.contains(&module.as_str())
            && !is_host
        {
            report(path.line, format!("std::{module} belongs to the host"));
        }
    }
    for token in &tokens {
        let text = token.text.as_str();
        if BROWSER_CRATES.contains(&text) && room != "wasm" {
            report(token.line, format!("{text} belongs to src/wasm"));
        }
        if CLOCKS.contains(&text) && room != "bin" && room != "wasm" {
            report(token.line, format!("{text} belongs to the host"));
        }
        if text == "unsafe" && room != "kernels" {
            report(token.line, "unsafe belongs to src/kernels".into());
        }
    }
    for window in tokens.windows(3) {
        let allows = window[0].text == "allow" || window[0].text == "expect";
        if allows && window[2].text == "unsafe_code" && room != "kernels" && room != "lib" {
            report(
                window[0].line,
                "unsafe_code may be allowed in src/kernels alone".into(),
            );
        }
    }
    found
}

/// The room that a path leads into: `None` for paths that stay where they are or leave the crate,
/// `Err` for names under the crate root that nobody knows.
fn target_room(
    path: &PathUse,
    file: &[&str],
    reexports: &HashMap<String, String>,
) -> Option<Result<String, String>> {
    let segments = &path.segments;
    let first = match segments[0].as_str() {
        "crate" => segments.get(1)?,
        // A binary sees the library by its name.
        "smollm_web" => segments.get(1)?,
        "super" | "self" => {
            let climbs = segments
                .iter()
                .take_while(|s| *s == "super" || *s == "self");
            let ups = climbs.clone().filter(|s| *s == "super").count();
            // src/a.rs and src/a/mod.rs are one level deep, src/a/b.rs is two.
            let named_mod = matches!(*file.last().unwrap(), "mod.rs" | "lib.rs");
            let depth = file.len() - 1 - usize::from(named_mod) + path.inline_modules;
            if file[1] == "bin" || ups < depth {
                return None;
            }
            segments.get(climbs.count())?
        }
        _ => return None,
    };
    if first == "*" || first == "self" {
        return None;
    }
    if ROOMS.iter().any(|(room, _)| room == first) {
        return Some(Ok(first.clone()));
    }
    Some(reexports.get(first).cloned().ok_or_else(|| first.clone()))
}

/// All paths of at least two segments, and whatever follows `use`.
fn paths(tokens: &[Token]) -> Vec<PathUse> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let is_use = tokens[i].text == "use";
        let starts = is_identifier(&tokens[i].text)
            && tokens.get(i + 1).is_some_and(|next| next.text == "::");
        if is_use || starts {
            let start = if is_use { i + 1 } else { i };
            let mut leaves = Vec::new();
            i = tree(tokens, start, &mut Vec::new(), &mut leaves).max(i + 1);
            found.extend(leaves);
        } else {
            i += 1;
        }
    }
    found
}

/// One `a::{b, c::d}` from token `i`; gives the index after it.
fn tree(
    tokens: &[Token],
    mut i: usize,
    prefix: &mut Vec<String>,
    leaves: &mut Vec<PathUse>,
) -> usize {
    let depth = prefix.len();
    let mut is_group = false;
    while let Some(token) = tokens.get(i) {
        match token.text.as_str() {
            "::" => i += 1,
            "{" if i > 0 && (tokens[i - 1].text == "::" || tokens[i - 1].text == "use") => {
                is_group = true;
                i += 1;
                while tokens.get(i).is_some_and(|t| t.text != "}") {
                    let before = i;
                    i = tree(tokens, i, prefix, leaves);
                    if tokens.get(i).is_some_and(|t| t.text == ",") || i == before {
                        i += 1;
                    }
                }
                i += 1;
                break;
            }
            text if is_identifier(text) || text == "*" => {
                let follows = i > 0 && tokens[i - 1].text == "::";
                if prefix.len() > depth && !follows {
                    break; // `as name`, or the next word of an expression
                }
                prefix.push(text.to_owned());
                i += 1;
            }
            _ => break,
        }
    }
    // `as name` is part of the tree and of no interest.
    if tokens.get(i).is_some_and(|t| t.text == "as") {
        i += 2;
    }
    if !is_group && prefix.len() > depth {
        let at = &tokens[i - 1];
        leaves.push(PathUse {
            segments: prefix.clone(),
            line: at.line,
            inline_modules: at.inline_modules,
            in_test: at.in_test,
        });
    }
    prefix.truncate(depth);
    i
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens of a file without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens: Vec<Token> = Vec::new();
    // The brace depths at which inline modules close, and whether each is a test module.
    let mut modules: Vec<(usize, bool)> = Vec::new();
    let (mut i, mut line, mut braces) = (0, 1, 0);
    while i < chars.len() {
        let start = i;
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
            continue;
        } else if c == '/' && at(i + 1) == '*' {
            i = block_comment_end(&chars, i);
        } else if let Some(end) = literal_end(&chars, i) {
            i = end;
        } else if c.is_alphanumeric() || c == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
        } else {
            i += 1;
        }
        let is_comment_or_literal =
            c == '/' && i > start + 1 || literal_end(&chars, start) == Some(i);
        if !is_comment_or_literal && !c.is_whitespace() {
            let text: String = chars[start..i].iter().collect();
            if text == "{" {
                if is_inline_module(&tokens) {
                    let is_test = is_test_module(&tokens);
                    modules.push((braces, is_test));
                }
                braces += 1;
            }
            tokens.push(Token {
                line,
                inline_modules: modules.len(),
                in_test: modules.iter().any(|(_, is_test)| *is_test),
                text,
            });
            if c == '}' {
                braces = usize::saturating_sub(braces, 1);
                if modules.last().is_some_and(|(depth, _)| *depth == braces) {
                    modules.pop();
                }
            }
        }
        line += chars[start..i].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Whether the next `{` opens a module: `mod name {`.
fn is_inline_module(tokens: &[Token]) -> bool {
    tokens.len() >= 2 && tokens[tokens.len() - 2].text == "mod"
}

/// Whether that module carries `#[cfg(test)]`, other attributes and `pub` in between or not.
fn is_test_module(tokens: &[Token]) -> bool {
    let recent: Vec<&str> = tokens
        .iter()
        .rev()
        .take(16)
        .map(|t| t.text.as_str())
        .collect();
    let until = recent
        .iter()
        .position(|t| matches!(*t, ";" | "}" | "{"))
        .unwrap_or(recent.len());
    recent[..until]
        .windows(3)
        .any(|w| w == ["test", "(", "cfg"])
}

/// Where the block comment that starts at `i` ends; they nest.
fn block_comment_end(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => i += 1,
        }
    }
    i
}

/// Where the string or character literal or lifetime that starts at `i` ends, if one does.
fn literal_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    // r"…", r#"…"#, b"…", br#"…"#, c"…"
    let mut open = i;
    while open < i + 2 && matches!(at(open), 'r' | 'b' | 'c') {
        open += 1;
    }
    let is_raw = open > i && at(open - 1) == 'r';
    let mut hashes = 0;
    while is_raw && at(open + hashes) == '#' {
        hashes += 1;
    }
    if at(open + hashes) == '"' {
        let mut end = open + hashes + 1;
        while end < chars.len() {
            if !is_raw && chars[end] == '\\' {
                end += 2;
            } else if chars[end] == '"' && (0..hashes).all(|h| at(end + 1 + h) == '#') {
                return Some(end + 1 + hashes);
            } else {
                end += 1;
            }
        }
        return Some(chars.len());
    }
    if at(i) != '\'' {
        return None;
    }
    // 'x' and '\n' and '\u{1F600}' are characters, 'static is a lifetime.
    if at(i + 1) == '\\' {
        let mut end = i + 3;
        while end < chars.len() && chars[end] != '\'' {
            end += 1;
        }
        return Some(end + 1);
    }
    if at(i + 2) == '\'' {
        return Some(i + 3);
    }
    let mut end = i + 1;
    while at(end).is_alphanumeric() || at(end) == '_' {
        end += 1;
    }
    Some(end)
}
