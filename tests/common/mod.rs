//! What several test files need: references, third-party files, vocabularies.
#![allow(dead_code)] // each test file uses its part

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use serde::de::DeserializeOwned;
use smollm_web::tokenizer::{GgufVocab, Tokenizer};

/// A path inside the project.
pub fn project(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The real model: SmolLM2-135M-Instruct as Q4_1, in `models/` or where `SMOLLM_MODEL_DIR` says.
pub fn real_gguf() -> PathBuf {
    let models =
        std::env::var_os("SMOLLM_MODEL_DIR").map_or_else(|| project("models"), PathBuf::from);
    let name = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let places = [
        models.join("smollm2-135m-instruct").join(name),
        models.join(name),
    ];
    places
        .iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{} is missing: run scripts/fetch-model",
                places[0].display()
            )
        })
        .clone()
}

/// A third-party file of `scripts/fetch-fixture`.
pub fn fetched_fixture(name: &str) -> PathBuf {
    let path = project("target/golden-cache").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run scripts/fetch-fixture {name}",
        path.display()
    );
    path
}

/// The lines of a JSONL file in `tests/golden/`.
pub fn golden<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = project("tests/golden").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}")))
        .collect::<Vec<T>>();
    assert!(!rows.is_empty(), "{name} is empty");
    rows
}

/// The vocabulary in a GGUF file, read by Candle.
pub fn gguf_vocab(path: &Path) -> GgufVocab {
    let mut file = BufReader::new(File::open(path).unwrap());
    let metadata = Content::read(&mut file).unwrap().metadata;
    let get = |key: &str| &metadata[&format!("tokenizer.ggml.{key}")];
    let strings = |key| {
        let items = get(key).to_vec().unwrap().iter();
        items.map(|v| v.to_string().unwrap().clone()).collect()
    };
    let kind = |value: &Value| match value {
        Value::I32(kind) => u32::try_from(*kind).unwrap(),
        other => other.to_u32().unwrap(),
    };
    GgufVocab {
        pre: get("pre").to_string().unwrap().clone(),
        tokens: strings("tokens"),
        token_types: get("token_type")
            .to_vec()
            .unwrap()
            .iter()
            .map(kind)
            .collect(),
        merges: strings("merges"),
    }
}

/// SmolLM2's tokenizer, from the real model.
pub fn smollm2_tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(gguf_vocab(&real_gguf())).unwrap()
}
