//! What a model's files say about language: vocabulary, template, end tokens, sampling.

use super::{CheckpointTexts, LoadOptions};
use crate::config::{Architecture, Metadata, ModelConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{self, ModelEntry, SamplingDefaults, TemplateKind};
use crate::token::TokenId;
use crate::tokenizer::{ChatTemplate, GgufVocab, Tokenizer};
use serde_json::Value;

/// The GGUF keys of tokens by the names that templates use.
const GGUF_TOKENS: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
];

/// All but the weights.
pub(super) struct Language {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: ChatTemplate,
    pub(super) end_tokens: Vec<TokenId>,
    pub(super) name: String,
    pub(super) sampling: SamplingDefaults,
    pub(super) context_length: usize,
    pub(super) known: Option<&'static ModelEntry>,
}

/// What a model's files say about language, whichever the format.
struct Said {
    tokenizer: Tokenizer,
    template: Option<String>,
    /// Texts of tokens by the names that templates use.
    token_texts: Vec<(&'static str, String)>,
    end_tokens: Vec<TokenId>,
    name: Option<String>,
    temperature: Option<f32>,
    top_p: Option<f32>,
}

/// Control tokens that end an answer in every model that has them, whatever its files say: SmolLM's
/// name only one of the first two, and SmolLM3's not the third.
const END_TOKENS: [&str; 3] = ["<|im_end|>", "<|endoftext|>", "<|end_of_text|>"];

/// What a GGUF file's metadata say about language.
pub(super) struct GgufLanguage {
    pub(super) vocab: GgufVocab,
    pub(super) template: Option<String>,
    pub(super) token_texts: Vec<(&'static str, String)>,
    pub(super) end_tokens: Vec<TokenId>,
    pub(super) name: Option<String>,
}

impl GgufLanguage {
    /// Takes the vocabulary out of the metadata.
    pub(super) fn take(metadata: &mut Metadata, config: &ModelConfig) -> Result<Self> {
        let kind = metadata.require_string("tokenizer.ggml.model")?;
        if kind != "gpt2" {
            return Err(Error::new(
                ErrorKind::UnsupportedArchitecture,
                format!("tokenizer.ggml.model {kind:?} is not supported (known: gpt2)"),
            ));
        }
        let pre = metadata.require_string("tokenizer.ggml.pre")?.to_owned();
        let template = metadata
            .string("tokenizer.chat_template")?
            .map(str::to_owned);
        let name = metadata.string("general.name")?.map(str::to_owned);
        // llama.cpp's end of turn, where it is not the end of text.
        let turn_end = metadata.token("tokenizer.ggml.eot_token_id")?;
        let token_types = metadata
            .integers("tokenizer.ggml.token_type")?
            .unwrap_or_default();
        let mut take = |key: &str| {
            metadata
                .take_strings(key)?
                .ok_or_else(|| Error::not_a_model(format!("gguf metadata has no {key}")))
        };
        let tokens = take("tokenizer.ggml.tokens")?;
        let merges = take("tokenizer.ggml.merges")?;
        let mut token_texts = Vec::new();
        for (token, key) in GGUF_TOKENS {
            if let Some(id) = metadata.token(key)?
                && let Some(text) = tokens.get(id.0 as usize)
            {
                token_texts.push((token, text.clone()));
            }
        }
        Ok(Self {
            vocab: GgufVocab {
                pre,
                tokens,
                token_types,
                merges,
            },
            template,
            token_texts,
            end_tokens: config
                .eos_token_ids
                .iter()
                .copied()
                .chain(turn_end)
                .collect(),
            name,
        })
    }
}

impl Language {
    /// From a GGUF file's metadata; the vocabulary is taken out of it.
    pub(super) fn from_gguf(
        metadata: &mut Metadata,
        config: &ModelConfig,
        options: &LoadOptions,
    ) -> Result<Language> {
        let gguf = GgufLanguage::take(metadata, config)?;
        let said = Said {
            tokenizer: Tokenizer::from_gguf(gguf.vocab)?,
            template: gguf.template,
            token_texts: gguf.token_texts,
            end_tokens: gguf.end_tokens,
            name: gguf.name,
            temperature: None,
            top_p: None,
        };
        Language::new(said, config, options)
    }

    /// From the small files of a checkpoint.
    pub(super) fn from_checkpoint(
        texts: &CheckpointTexts,
        config: &ModelConfig,
        options: &LoadOptions,
    ) -> Result<Language> {
        let tokenizer_config = parse("tokenizer_config.json", texts.tokenizer_config)?;
        let generation = parse("generation_config.json", texts.generation_config)?;
        let template = match texts.chat_template {
            Some(source) => Some(source.to_owned()),
            None => template_of(&tokenizer_config["chat_template"])?,
        };
        let mut token_texts = Vec::new();
        for (token, _) in GGUF_TOKENS {
            // A string, or the token with its flags.
            let value = &tokenizer_config[token];
            if let Some(text) = value.as_str().or_else(|| value["content"].as_str()) {
                token_texts.push((token, text.to_owned()));
            }
        }
        let end_tokens = match &generation["eos_token_id"] {
            Value::Null => config.eos_token_ids.clone(),
            value => ModelConfig::token_ids(value).ok_or_else(|| {
                Error::not_a_model(format!(
                    "generation_config.json: eos_token_id: expected a token id or a list of them, \
                 found {value}"
                ))
            })?,
        };
        let number = |key: &str, range: std::ops::RangeInclusive<f64>| match &generation[key] {
            Value::Null => Ok(None),
            value => match value.as_f64().filter(|x| range.contains(x)) {
                Some(x) => Ok(Some(x as f32)),
                None => Err(Error::not_a_model(format!(
                    "generation_config.json: {key}: {value} is not in {range:?}"
                ))),
            },
        };
        let said = Said {
            tokenizer: Tokenizer::from_json(texts.tokenizer.as_bytes())?,
            template,
            token_texts,
            end_tokens,
            name: None,
            temperature: number("temperature", 0.0..=100.0)?,
            top_p: number("top_p", 0.0..=1.0)?,
        };
        Language::new(said, config, options)
    }

    fn new(said: Said, config: &ModelConfig, options: &LoadOptions) -> Result<Self> {
        let Said { tokenizer, .. } = said;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::not_a_model(format!(
                "the tokenizer has {} tokens, the embedding only {} rows",
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        let mut end_tokens: Vec<TokenId> = Vec::new();
        let usual = END_TOKENS
            .iter()
            .filter_map(|name| tokenizer.special_id(name));
        for id in said.end_tokens.into_iter().chain(usual) {
            if id.0 as usize >= config.vocab_size {
                return Err(Error::not_a_model(format!(
                    "eos_token_id {} is outside the vocabulary of {}",
                    id.0, config.vocab_size
                )));
            }
            if !end_tokens.contains(&id) {
                end_tokens.push(id);
            }
        }
        let own_name = options.name.clone().or(said.name);
        let known = registry::recognise(own_name.as_deref(), config);
        let mut template = match said.template {
            Some(source) => ChatTemplate::new(source)?,
            None => match fallback_template(known, config) {
                TemplateKind::SmolLm => ChatTemplate::smollm(),
                TemplateKind::SmolLm2 => ChatTemplate::smollm2(),
                TemplateKind::SmolLm3 => ChatTemplate::smollm3(),
            },
        };
        for (name, text) in said.token_texts {
            template = template.with_token(name, text);
        }
        let usual = known.map_or_else(
            || match config.architecture {
                Architecture::Llama => SamplingDefaults::SMOLLM2,
                Architecture::SmolLm3 => SamplingDefaults::SMOLLM3,
            },
            |model| model.sampling,
        );
        Ok(Self {
            template,
            end_tokens,
            name: own_name
                .or_else(|| known.map(|model| model.label.into()))
                .unwrap_or_else(|| config.architecture.name().into()),
            sampling: SamplingDefaults {
                temperature: said.temperature.unwrap_or(usual.temperature),
                top_p: said.top_p.unwrap_or(usual.top_p),
            },
            context_length: options.positions(config)?,
            tokenizer,
            known,
        })
    }
}

/// A model without a template: the one it is known for, or else plain ChatML, which adds nothing.
fn fallback_template(known: Option<&ModelEntry>, config: &ModelConfig) -> TemplateKind {
    match (known, config.architecture) {
        (Some(model), _) => model.template,
        (None, Architecture::Llama) => TemplateKind::SmolLm,
        (None, Architecture::SmolLm3) => TemplateKind::SmolLm3,
    }
}

fn parse(file: &str, text: Option<&str>) -> Result<Value> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    serde_json::from_str(text)
        .map_err(|e| Error::not_a_model(format!("{file} is not JSON: {e}")).caused_by(e))
}

/// One template, or several by name of which "default" is the one for chats.
fn template_of(value: &Value) -> Result<Option<String>> {
    let source = match value {
        Value::Null => return Ok(None),
        Value::String(source) => Some(source.as_str()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str()),
        _ => None,
    };
    match source {
        Some(source) => Ok(Some(source.to_owned())),
        None => Err(Error::not_a_model(
            "tokenizer_config.json: chat_template: expected a template or a list with a default",
        )),
    }
}
