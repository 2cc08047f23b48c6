//! The content of a `tokenizer.json`, as far as a byte-level BPE needs it.
//!
//! Truncation, padding and the post-processor are not read: tokens at the ends of a text are the chat
//! template's business. A BPE's unknown token is not read either: at byte level it stands for a byte
//! without a token, and text must not become a control token.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use super::gguf::split_merge;
use super::words::Words;
use super::{Parts, unsupported};
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

#[derive(Deserialize)]
struct Model {
    /// Absent in old files, which were all BPE if they have merges.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Vocab,
    #[serde(default)]
    merges: Merges,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merges {
    Pairs(Vec<(String, String)>),
    /// `"a b"`, as in old files and merges.txt.
    Lines(Vec<String>),
}

impl Default for Merges {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

/// Read before the rest, whose fields have other shapes in other kinds of models.
#[derive(Deserialize)]
struct Kind {
    model: KindOfModel,
}

#[derive(Deserialize)]
struct KindOfModel {
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub(super) fn read(content: &[u8]) -> Result<Parts> {
    let malformed = |e: serde_json::Error| Error::not_a_model(e.to_string()).caused_by(e);
    let Kind { model } = serde_json::from_slice(content).map_err(malformed)?;
    if let Some(kind) = model.kind.filter(|kind| kind != "BPE") {
        return Err(unsupported(format!(
            "model type {kind:?} is not supported: expected BPE"
        )));
    }
    let File {
        added_tokens,
        normalizer,
        pre_tokenizer,
        model,
    } = serde_json::from_slice(content).map_err(malformed)?;
    debug_assert!(model.kind.is_none_or(|kind| kind == "BPE"));

    for (field, value) in [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if value.as_deref().is_some_and(|v| !v.is_empty()) {
            return Err(unsupported(format!("{field} is not supported")));
        }
    }
    if model.byte_fallback {
        return Err(unsupported("no byte-level BPE"));
    }
    if !normalizer.is_null() {
        return Err(unsupported(format!(
            "normalizer is not supported: {normalizer}"
        )));
    }
    let words = Words::from_json(&pre_tokenizer)?;
    let merges = match model.merges {
        Merges::Pairs(pairs) => pairs,
        Merges::Lines(lines) => lines
            .iter()
            .filter(|line| !line.starts_with("#version"))
            .enumerate()
            .map(|(rank, line)| split_merge(rank, line))
            .collect::<Result<_>>()?,
    };
    Ok(Parts {
        vocab: model.vocab,
        merges,
        added: added_tokens.into_iter().map(|a| (a.id, a.token)).collect(),
        ignore_merges: model.ignore_merges,
        words,
    })
}
