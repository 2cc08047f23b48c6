//! The vocabulary in a GGUF file's metadata (`tokenizer.ggml.*`).
//!
//! GGUF names a pre-tokenizer instead of describing it. The pipelines behind the names are those of the
//! models' own `tokenizer.json` files.

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use super::words::{Words, byte_level};
use super::{Parts, unsupported};
use crate::error::{Error, Result};

/// What `tokenizer.ggml.*` say.
#[derive(Debug, Clone, Default)]
pub struct GgufVocab {
    /// `tokenizer.ggml.pre`: the pre-tokenizer's name.
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by id, in the byte-level alphabet.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused,
    /// 6 byte. Empty: all normal.
    pub token_types: Vec<u32>,
    /// `tokenizer.ggml.merges`, by rank: two tokens with a space between.
    pub merges: Vec<String>,
}

// llama.cpp's `enum llama_token_type` (include/llama.h).
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const UNUSED: u32 = 5;

pub(super) fn read(gguf: GgufVocab) -> Result<Parts> {
    let (words, ignore_merges) = pre_tokenizer(&gguf.pre)?;
    if !gguf.token_types.is_empty() && gguf.token_types.len() != gguf.tokens.len() {
        return Err(Error::not_a_model(format!(
            "{} token types for {} tokens",
            gguf.token_types.len(),
            gguf.tokens.len()
        )));
    }
    let mut vocab = Vocab::with_capacity(gguf.tokens.len());
    let mut added = Vec::new();
    for (id, token) in gguf.tokens.into_iter().enumerate() {
        let kind = gguf.token_types.get(id).copied().unwrap_or_default();
        let id = u32::try_from(id).map_err(|_| Error::not_a_model("too many tokens"))?;
        if matches!(kind, UNKNOWN | CONTROL | USER_DEFINED) {
            let special = kind != USER_DEFINED;
            added.push((
                id,
                AddedToken::from(token.clone(), special).normalized(false),
            ));
        }
        // Converters fill ids without a token with unused names, not always different ones.
        if kind != UNUSED
            && let Some(other) = vocab.insert(token, id)
        {
            let token = vocab.iter().find(|entry| *entry.1 == id).map(|e| e.0);
            return Err(Error::not_a_model(format!(
                "token {:?} stands twice, at {other} and {id}",
                token.map_or("", String::as_str)
            )));
        }
    }
    let merges = gguf
        .merges
        .iter()
        .enumerate()
        .map(|(rank, merge)| split_merge(rank, merge))
        .collect::<Result<_>>()?;
    Ok(Parts {
        vocab,
        merges,
        added,
        ignore_merges,
        words,
    })
}

impl GgufVocab {
    /// The same vocabulary as the content of a `tokenizer.json`, the same bytes every time.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_gguf`](super::Tokenizer::from_gguf) for the names and merges.
    pub fn to_json(&self) -> Result<String> {
        let unwritable = |e: serde_json::Error| {
            Error::not_a_model(format!("the vocabulary cannot be written: {e}")).caused_by(e)
        };
        let parts = read(self.clone())?;
        let mut vocab: Vec<_> = parts.vocab.into_iter().collect();
        vocab.sort_unstable_by_key(|(_, id)| *id);
        let mut added_tokens = Vec::new();
        for (id, token) in parts.added {
            let mut entry = json!({ "id": id });
            if let (Value::Object(entry), Value::Object(token)) =
                (&mut entry, serde_json::to_value(token).map_err(unwritable)?)
            {
                entry.extend(token);
            }
            added_tokens.push(entry);
        }
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added_tokens,
            "normalizer": null,
            "pre_tokenizer": parts.words.to_json(),
            "post_processor": null,
            "decoder": byte_level(true, true),
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": parts.ignore_merges,
                "vocab": vocab.into_iter().map(|(token, id)| (token, id.into())).collect::<Map<_, _>>(),
                "merges": self.merges,
            },
        });
        serde_json::to_string(&file).map_err(unwritable)
    }
}

/// Cuts `"a b"` in two.
pub(super) fn split_merge(rank: usize, merge: &str) -> Result<(String, String)> {
    match merge.split_once(' ') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => {
            Ok((a.to_owned(), b.to_owned()))
        }
        _ => Err(Error::not_a_model(format!(
            "merge {rank} ({merge:?}) is not two tokens with a space between"
        ))),
    }
}

/// How a name cuts words, and whether whole words are looked up before merging.
fn pre_tokenizer(name: &str) -> Result<(Words, bool)> {
    match name {
        "smollm" => Ok((Words::smollm(), false)),
        "llama-bpe" | "smaug-bpe" => Ok((Words::llama3(), true)),
        _ => Err(unsupported(format!(
            "pre-tokenizer {name:?} is not supported: expected smollm, llama-bpe or smaug-bpe"
        ))),
    }
}
