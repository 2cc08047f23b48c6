//! The table of known models stands in three languages; here they are compared.
#![cfg(not(target_arch = "wasm32"))]

use smollm_web::registry::{find, models};

fn source(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The value of `key: "value"` in every place of a JavaScript text.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.split(&format!("{key}: \""))
        .skip(1)
        .map(|rest| &rest[..rest.find('"').expect("the string's end")])
        .collect()
}

#[test]
fn the_package_knows_the_same_models() {
    let text = source("js/models.js");
    let start = text.find("REGISTRY = ").expect("the package's registry");
    let table = &text[start..][..text[start..].find("]);").expect("its end")];

    let ids = values(table, "id");
    let served: Vec<_> = models().iter().filter(|m| m.source.is_some()).collect();
    assert_eq!(ids, served.iter().map(|m| m.id).collect::<Vec<_>>());
    assert_eq!(
        values(table, "label"),
        served.iter().map(|m| m.label).collect::<Vec<_>>()
    );
    assert_eq!(
        values(table, "licence"),
        served.iter().map(|m| m.licence).collect::<Vec<_>>()
    );
}

#[test]
fn the_fetch_script_pins_the_default_models_file() {
    let text = source("scripts/fetch-model");
    let default = &models()[0];
    let file = default.source.expect("the default model is pinned");
    assert!(text.contains(&format!("GGUF_SHA256={}", file.sha256)));
    let (folder, name) = file.path.split_once('/').expect("a folder and a name");
    assert_eq!(folder, default.id);
    assert!(text.contains(name), "{name}");
}

#[test]
fn entries_are_json_for_hosts() {
    let entry = serde_json::to_value(find("smollm3-3b").unwrap()).unwrap();
    assert_eq!(entry["architecture"], "smollm3");
    assert_eq!(entry["template"], "smollm3");
    assert_eq!(entry["context_length"], 65_536);
    assert_eq!(entry["end_tokens"][0], "<|im_end|>");
    assert_eq!(entry["source"], serde_json::Value::Null);
}
