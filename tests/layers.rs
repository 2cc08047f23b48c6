//! Who may import whom, kept true by reading the sources: see "Rooms" in `docs/architecture.md`.
//!
//! The checker reads tokens, not lines, so comments and strings do not matter, and neither does how an
//! import is written: `use crate::{a, b::c}`, `crate::a::f()` in the middle of an expression, and
//! `super::super::a` are the same to it. `mod checker` below shows it failing on what it should catch.
#![cfg(not(target_arch = "wasm32"))]

#[path = "layers/javascript.rs"]
mod javascript;
#[path = "layers/rust.rs"]
mod rust;

use std::fs;
use std::path::{Path, PathBuf};

/// Every room of `src/` and the rooms that it may name. A new room is added here, in the open.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("token", &[]),
    ("kernels", &[]),
    ("config", &["error", "token"]),
    ("int4", &["error", "kernels"]),
    ("weights", &["error", "token", "config", "int4"]),
    (
        "model",
        &["error", "token", "config", "weights", "int4", "kernels"],
    ),
    ("tokenizer", &["error", "token"]),
    ("sampler", &["error", "token"]),
    ("registry", &["error", "config"]),
    (
        "session",
        &["error", "token", "model", "tokenizer", "sampler"],
    ),
    ("fingerprint", &["error", "token", "model", "sampler"]),
    (
        "survey",
        &["error", "config", "weights", "model", "session", "loader"],
    ),
    (
        "loader",
        &[
            "error",
            "token",
            "config",
            "registry",
            "int4",
            "weights",
            "model",
            "tokenizer",
        ],
    ),
    (
        "instruct",
        &[
            "error",
            "token",
            "model",
            "tokenizer",
            "sampler",
            "session",
            "loader",
            "registry",
        ],
    ),
    (
        "wasm",
        &[
            "error",
            "token",
            "kernels",
            "config",
            "registry",
            "weights",
            "model",
            "tokenizer",
            "sampler",
            "session",
            "loader",
            "instruct",
            "fingerprint",
            "survey",
        ],
    ),
];

/// Crates that only `src/wasm` names: nothing else may know that there is a browser.
const BROWSER_CRATES: &[&str] = &[
    "wasm_bindgen",
    "wasm_bindgen_futures",
    "serde_wasm_bindgen",
    "js_sys",
    "web_sys",
    "console_error_panic_hook",
];

/// Input, output and clocks belong to the host: only `src/bin` and `src/wasm` have them.
const HOST_MODULES: &[&str] = &["fs", "net", "time", "process", "env"];
const CLOCKS: &[&str] = &["Instant", "SystemTime"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` with this extension, as (path relative to the project, text).
fn sources(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            // Installed dependencies and generated code are not ours to judge.
            let foreign = ["node_modules", "pkg", "vendor"];
            if path.is_dir() {
                if !foreign.iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    assert!(
        !files.is_empty(),
        "no .{extension} files below {folder}: the check reads nothing"
    );
    files.sort();
    files
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn rust_rooms_import_only_what_they_may() {
    let files = sources("src", "rs");
    let lib = &files
        .iter()
        .find(|(path, _)| path == Path::new("src/lib.rs"))
        .expect("src/lib.rs")
        .1;
    let reexports = rust::reexports(lib);
    assert_none(
        files
            .iter()
            .flat_map(|(path, text)| rust::violations(path, text, &reexports))
            .collect(),
    );
}

#[test]
fn every_room_has_its_rule_and_every_rule_its_room() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut declared = rust::modules(&lib);
    let mut known: Vec<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    declared.sort();
    known.sort();
    assert_eq!(
        declared, known,
        "modules of src/lib.rs against the rooms of tests/layers.rs"
    );
}

#[test]
fn the_package_imports_nothing_from_outside_its_folder() {
    let files = sources("js", "js");
    assert_none(
        files
            .iter()
            .flat_map(|(path, text)| javascript::package_violations(path, text))
            .collect(),
    );
}

#[test]
fn the_page_imports_the_package_by_its_index_alone() {
    let files = sources("www", "js");
    assert_none(
        files
            .iter()
            .flat_map(|(path, text)| javascript::page_violations(path, text))
            .collect(),
    );
}

/// The checker itself, on snippets that it must catch and snippets that it must leave alone.
mod checker {
    use super::*;

    fn violations(path: &str, text: &str) -> Vec<String> {
        let lib =
            "pub mod error; pub mod model; pub use error::{Error, Result}; pub use model::Model;";
        rust::violations(Path::new(path), text, &rust::reexports(lib))
    }

    #[track_caller]
    fn caught(path: &str, text: &str, message: &str) {
        let found = violations(path, text);
        assert!(
            found.iter().any(|v| v.contains(message)),
            "{text:?} in {path}: found {found:?}"
        );
    }

    #[track_caller]
    fn left_alone(path: &str, text: &str) {
        assert_eq!(
            violations(path, text),
            Vec::<String>::new(),
            "{text:?} in {path}"
        );
    }

    #[test]
    fn catches_a_forbidden_room_however_it_is_written() {
        for text in [
            "use crate::session::Session;",
            "use crate::{error::Error, session};",
            "use crate::{\n    error::{Error, Result},\n    session::{self, Session},\n};",
            "fn f() { let s = crate::session::Session::new(); }",
            "macro_rules! m { () => { $crate::session::Session::new() } }",
            "use super::super::session::Session;",
            "mod inner { use super::super::super::session::Session; }",
            "#[cfg(test)] mod tests { use crate::session::Session; }",
        ] {
            caught(
                "src/model/attention.rs",
                text,
                "room model may not import session",
            );
        }
        caught(
            "src/sampler/mod.rs",
            "use super::model::Model;",
            "room sampler may not import model",
        );
        caught(
            "src/config.rs",
            "use crate::weights;",
            "room config may not import weights",
        );
        caught(
            "src/config/json.rs",
            "use crate::weights;",
            "room config may not import weights",
        );
        caught(
            "src/kernels/simd.rs",
            "use crate::error::Error;",
            "room kernels may not import error",
        );
        caught(
            "src/session.rs",
            "use crate::wasm::fetch;",
            "room session may not import wasm",
        );
        caught(
            "src/bin/smollm/main.rs",
            "use smollm_web::wasm::fetch;",
            "bin may not import wasm",
        );
    }

    #[test]
    fn follows_names_that_the_crate_root_re_exports() {
        caught(
            "src/sampler/mod.rs",
            "use crate::Model;",
            "room sampler may not import model",
        );
        caught(
            "src/sampler/mod.rs",
            "use crate::Unheard;",
            "crate::Unheard is no room",
        );
        left_alone("src/sampler/mod.rs", "use crate::{Error, Result};");
    }

    #[test]
    fn leaves_permitted_imports_comments_and_strings_alone() {
        left_alone(
            "src/model/mod.rs",
            "use crate::{error::Result, kernels, weights::TensorInfo};",
        );
        left_alone(
            "src/model/mod.rs",
            "mod tests { use super::*; use super::attention::Shape; }",
        );
        left_alone("src/model/attention.rs", "use super::norm::rms_norm;");
        left_alone(
            "src/model/mod.rs",
            "// crate::session::Session\n/* crate::wasm /* nested */ unsafe */",
        );
        left_alone(
            "src/model/mod.rs",
            r###"const S: &str = "crate::session \" unsafe"; const R: &str = r#"web_sys""#;"###,
        );
        left_alone(
            "src/model/mod.rs",
            "fn f<'a>(c: char) -> &'a str { match c { '\"' => \"\", '\\'' => \"\", _ => \"\" } }",
        );
        left_alone("src/model/mod.rs", "let t = candle_core::session::x();");
    }

    #[test]
    fn catches_browser_crates_outside_their_room() {
        caught(
            "src/session.rs",
            "use wasm_bindgen::prelude::*;",
            "wasm_bindgen belongs to src/wasm",
        );
        caught(
            "src/session.rs",
            "#[wasm_bindgen] pub fn f() {}",
            "wasm_bindgen belongs to src/wasm",
        );
        caught(
            "src/bin/smollm/main.rs",
            "js_sys::Date::now();",
            "js_sys belongs to src/wasm",
        );
        left_alone(
            "src/wasm/fetch.rs",
            "use web_sys::Response; use wasm_bindgen::JsValue;",
        );
    }

    #[test]
    fn catches_input_output_and_clocks() {
        caught(
            "src/loader.rs",
            "use std::fs::File;",
            "std::fs belongs to the host",
        );
        caught(
            "src/loader.rs",
            "use std::{fmt, net::TcpStream};",
            "std::net belongs to the host",
        );
        caught(
            "src/loader.rs",
            "let home = std::env::var(\"HOME\");",
            "std::env belongs to the host",
        );
        caught(
            "src/session.rs",
            "let t = Instant::now();",
            "Instant belongs to the host",
        );
        left_alone("src/loader.rs", "use std::{fmt, io::Cursor};");
        left_alone("src/bin/smollm/main.rs", "use std::{fs, time::Instant};");
        left_alone(
            "src/model/mod.rs",
            "#[cfg(test)] mod tests { use std::fs; }",
        );
    }

    #[test]
    fn catches_unsafe_outside_kernels_also_in_tests() {
        caught(
            "src/model/mod.rs",
            "fn f() { unsafe { g() } }",
            "unsafe belongs to src/kernels",
        );
        caught(
            "src/model/mod.rs",
            "#[cfg(test)] mod tests { unsafe fn f() {} }",
            "unsafe belongs to src/kernels",
        );
        caught(
            "src/model/mod.rs",
            "#![allow(unsafe_code)]",
            "unsafe_code may be allowed in src/kernels alone",
        );
        left_alone(
            "src/kernels/simd.rs",
            "#![allow(unsafe_code)] unsafe fn f() {}",
        );
        left_alone("src/lib.rs", "#![deny(unsafe_code)]");
    }

    #[test]
    fn says_where() {
        caught(
            "src/model/mod.rs",
            "\n\nuse crate::session;",
            "src/model/mod.rs:3: ",
        );
    }

    #[test]
    fn a_new_room_without_a_rule_is_caught() {
        caught(
            "src/novel/mod.rs",
            "",
            "src/novel/mod.rs: no rule for room novel",
        );
    }

    #[test]
    fn catches_javascript_that_leaves_its_folder() {
        let package = |text| javascript::package_violations(Path::new("js/deep/file.js"), text);
        assert_eq!(
            package("import { a } from \"./a.js\";\nimport b from '../b.js';"),
            Vec::<String>::new()
        );
        assert_eq!(
            package("// import a from \"left-pad\"\n * @type {import(\"../../x.js\").X}"),
            Vec::<String>::new()
        );
        for text in [
            "import x from \"../../www/app.js\";",
            "import {\n  x,\n} from \"left-pad\";",
            "export * from 'https://example.org/x.js';",
            "const x = await import(\"../../x.js\");",
            "import \"/x.js\";",
        ] {
            assert_eq!(package(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn catches_a_page_that_reaches_into_the_package() {
        let page = |text| javascript::page_violations(Path::new("www/app.js"), text);
        assert_eq!(
            page("import { SmolLM } from \"./smollm-web/index.js\";"),
            Vec::<String>::new()
        );
        assert_eq!(
            page("import { SmolLM } from \"smollm-web\"; import x from \"./x.js\";"),
            Vec::<String>::new()
        );
        for text in [
            "import { Store } from \"./smollm-web/store.js\";",
            "import { Store } from \"smollm-web/store.js\";",
            "import { Store } from \"../js/store.js\";",
            "import lib from \"https://cdn.example.org/lib.js\";",
        ] {
            assert_eq!(page(text).len(), 1, "{text}");
        }
    }
}
