//! Reads JavaScript: which modules a file imports.

use std::path::{Component, Path, PathBuf};

/// The package is whole in itself: every import is relative and stays below `js/`.
pub fn package_violations(path: &Path, text: &str) -> Vec<String> {
    violations(path, text, |specifier| {
        resolve(path, specifier).is_some_and(|target| target.starts_with("js"))
    })
}

/// The page knows its own modules and the package's index. The built site has the package in
/// `smollm-web/` next to the page.
pub fn page_violations(path: &Path, text: &str) -> Vec<String> {
    violations(path, text, |specifier| {
        let Some(target) = resolve(path, specifier) else {
            return specifier == "smollm-web";
        };
        target == Path::new("www/smollm-web/index.js")
            || target.starts_with("www") && !target.starts_with("www/smollm-web")
    })
}

fn violations(path: &Path, text: &str, allowed: impl Fn(&str) -> bool) -> Vec<String> {
    imports(text)
        .into_iter()
        .filter(|(_, specifier)| !allowed(specifier))
        .map(|(line, specifier)| format!("{}:{line}: may not import {specifier:?}", path.display()))
        .collect()
}

/// (line, specifier) of every static and dynamic import with a literal specifier. Comment lines are
/// passed over, so types may be named in JSDoc.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if ["//", "/*", "*"].iter().any(|mark| start.starts_with(mark)) {
            continue;
        }
        for keyword in ["from", "import"] {
            for (at, _) in line.match_indices(keyword) {
                let is_word_start =
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
                let after = line[at + keyword.len()..].trim_start();
                let after = if keyword == "import" {
                    after.trim_start_matches('(')
                } else {
                    after
                };
                let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
                if let (true, Some(quote)) = (is_word_start, quote)
                    && let Some(end) = after[1..].find(quote)
                {
                    found.push((index + 1, after[1..=end].to_owned()));
                }
            }
        }
    }
    found
}

/// The project path that a relative specifier means in the file at `path`.
fn resolve(path: &Path, specifier: &str) -> Option<PathBuf> {
    if !specifier.starts_with("./") && !specifier.starts_with("../") {
        return None;
    }
    let mut target = path.parent()?.to_path_buf();
    for part in Path::new(specifier).components() {
        match part {
            Component::ParentDir if target.pop() => {}
            Component::ParentDir => return None,
            Component::Normal(part) => target.push(part),
            _ => {}
        }
    }
    Some(target)
}
