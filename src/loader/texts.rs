//! The small files of a checkpoint, written for a model that comes without them.

use super::language::GgufLanguage;
use crate::config::{Metadata, ModelConfig};
use crate::error::Result;
use serde_json::{Map, Value, json};

/// What a GGUF file's metadata say besides the config, as a checkpoint's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTexts {
    /// The model's name.
    pub name: Option<String>,
    /// Names and contents of files, some of [`CheckpointTexts::FILES`](super::CheckpointTexts::FILES).
    pub files: Vec<(&'static str, String)>,
}

/// Writes `tokenizer.json`, `tokenizer_config.json`, `generation_config.json` and, where there is a template,
/// `chat_template.jinja`; the same bytes for the same metadata. Takes the vocabulary out of the metadata.
///
/// # Errors
/// Those of [`Tokenizer::from_gguf`](crate::tokenizer::Tokenizer::from_gguf), and `not_a_model` for keys that are
/// missing or of the wrong type.
pub fn texts_of_gguf(metadata: &mut Metadata, config: &ModelConfig) -> Result<ModelTexts> {
    let language = GgufLanguage::take(metadata, config)?;
    let mut tokens: Map<String, Value> = language
        .token_texts
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    tokens.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    let ends: Vec<u32> = language.end_tokens.iter().map(|id| id.0).collect();
    let mut files = vec![
        ("tokenizer.json", language.vocab.to_json()?),
        ("tokenizer_config.json", Value::Object(tokens).to_string()),
    ];
    if !ends.is_empty() {
        files.push((
            "generation_config.json",
            json!({ "eos_token_id": ends }).to_string(),
        ));
    }
    if let Some(template) = language.template {
        files.push(("chat_template.jinja", template));
    }
    Ok(ModelTexts {
        name: language.name,
        files,
    })
}
