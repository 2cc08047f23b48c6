//! GGUF metadata: typed getters whose errors name the key, and the config in it.

use super::{
    Architecture, DEFAULT_NO_ROPE_INTERVAL, MAX_LAYERS, ModelConfig, no_rope_by_interval,
    unsupported,
};
use crate::error::{Error, Result};
use crate::token::TokenId;
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;

/// The key/value part of a GGUF header.
///
/// Getters give `Ok(None)` for an absent key and `not_a_model` naming the key for a value of another
/// type; the `require_…` forms also refuse an absent key.
#[derive(Debug, Default)]
pub struct Metadata(HashMap<String, Value>);

impl Metadata {
    /// Wraps what Candle read.
    pub fn new(values: HashMap<String, Value>) -> Self {
        Self(values)
    }

    /// Every key, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A count or id: any integer type, not negative.
    pub fn integer(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a count", |value| {
            usize::try_from(integer(value)?).ok()
        })
    }

    /// A floating-point number, given as f32.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        self.get(key, "a number", |value| match *value {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        })
    }

    /// A truth value.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| match *value {
            Value::Bool(x) => Some(x),
            _ => None,
        })
    }

    /// An array of integers, none negative and none above `u32::MAX`.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.get(key, "an array of counts", |value| match value {
            Value::Array(values) => values
                .iter()
                .map(|value| u32::try_from(integer(value)?).ok())
                .collect(),
            _ => None,
        })
    }

    /// Takes an array of strings out, so that a vocabulary exists once.
    pub fn take_strings(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        let Value::Array(values) = value else {
            return Err(wrong_type(key, "an array of strings", &value));
        };
        values
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(key, "an array of strings", &other)),
            })
            .collect::<Result<_>>()
            .map(Some)
    }

    /// [`Metadata::string`], required.
    pub fn require_string(&self, key: &str) -> Result<&str> {
        self.string(key)?.ok_or_else(|| missing(key))
    }

    /// [`Metadata::integer`], required.
    pub fn require_integer(&self, key: &str) -> Result<usize> {
        self.integer(key)?.ok_or_else(|| missing(key))
    }

    /// [`Metadata::float`], required.
    pub fn require_float(&self, key: &str) -> Result<f32> {
        self.float(key)?.ok_or_else(|| missing(key))
    }

    /// A token id.
    pub fn token(&self, key: &str) -> Result<Option<TokenId>> {
        self.get(key, "a token id", |value| {
            u32::try_from(integer(value)?).ok().map(TokenId)
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.0.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(found) => Ok(Some(found)),
                None => Err(wrong_type(key, expected, value)),
            },
        }
    }

    /// Elements of the array at `key`, 0 where there is none.
    pub fn array_len(&self, key: &str) -> usize {
        match self.0.get(key) {
            Some(Value::Array(values)) => values.len(),
            _ => 0,
        }
    }
}

fn integer(value: &Value) -> Option<i128> {
    Some(match *value {
        Value::U8(x) => x.into(),
        Value::I8(x) => x.into(),
        Value::U16(x) => x.into(),
        Value::I16(x) => x.into(),
        Value::U32(x) => x.into(),
        Value::I32(x) => x.into(),
        Value::U64(x) => x.into(),
        Value::I64(x) => x.into(),
        _ => return None,
    })
}

fn missing(key: &str) -> Error {
    Error::not_a_model(format!("gguf metadata has no {key}"))
}

fn wrong_type(key: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(values) => format!("an array of {} elements", values.len()),
        scalar => format!("{scalar:?}"),
    };
    Error::not_a_model(format!(
        "gguf metadata {key}: expected {expected}, found {found}"
    ))
}

/// The GGUF key that holds a config field.
pub(super) fn key_of(architecture: &str, field: &str) -> String {
    let name = match field {
        "hidden_size" => "embedding_length",
        "intermediate_size" => "feed_forward_length",
        "num_hidden_layers" => "block_count",
        "num_attention_heads" => "attention.head_count",
        "num_key_value_heads" => "attention.head_count_kv",
        "head_dim" => "attention.key_length",
        "num_attention_heads times head_dim" => "attention.head_count times attention.key_length",
        "rms_norm_eps" => "attention.layer_norm_rms_epsilon",
        "rope_theta" => "rope.freq_base",
        "max_position_embeddings" => "context_length",
        "bos_token_id" => return "tokenizer.ggml.bos_token_id".into(),
        "eos_token_id" => return "tokenizer.ggml.eos_token_id".into(),
        other => other,
    };
    format!("{architecture}.{name}")
}

/// Reads the numbers; [`ModelConfig::from_gguf`] checks them.
pub(super) fn read(metadata: &Metadata, tie_word_embeddings: bool) -> Result<ModelConfig> {
    let name = metadata.require_string("general.architecture")?;
    let architecture = Architecture::from_name(name).ok_or_else(|| {
        unsupported(format!(
            "general.architecture {name:?} is not supported (known: llama, smollm3)"
        ))
    })?;
    let key = |suffix: &str| format!("{}.{suffix}", architecture.name());
    refuse_variants(metadata, &key)?;

    let hidden_size = metadata.require_integer(&key("embedding_length"))?;
    let heads = metadata.require_integer(&key("attention.head_count"))?;
    let layers = metadata.require_integer(&key("block_count"))?;
    let kv_heads = metadata.integer(&key("attention.head_count_kv"))?;
    let head_dim = match metadata.integer(&key("attention.key_length"))? {
        Some(length) => length,
        None if heads == 0 || !hidden_size.is_multiple_of(heads) => {
            return Err(Error::not_a_model(format!(
                "{}: {heads} heads do not divide {} {hidden_size}",
                key("attention.head_count"),
                key("embedding_length")
            )));
        }
        None => hidden_size / heads,
    };
    for suffix in ["attention.value_length", "rope.dimension_count"] {
        if let Some(length) = metadata.integer(&key(suffix))?
            && length != head_dim
        {
            return Err(unsupported(format!(
                "{} {length} differs from the head size {head_dim}",
                key(suffix)
            )));
        }
    }
    let vocab_size = match metadata.integer(&key("vocab_size"))? {
        Some(size) => size,
        None => metadata.array_len("tokenizer.ggml.tokens"),
    };
    let no_rope_layers = match architecture {
        Architecture::Llama => vec![false; layers.min(MAX_LAYERS + 1)],
        // The format has no key for these layers.
        Architecture::SmolLm3 => no_rope_by_interval(layers, DEFAULT_NO_ROPE_INTERVAL),
    };
    Ok(ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        intermediate_size: metadata.require_integer(&key("feed_forward_length"))?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads.unwrap_or(heads),
        head_dim,
        rms_norm_eps: metadata.require_float(&key("attention.layer_norm_rms_epsilon"))?,
        // llama.cpp's default where the key is absent (`rope_freq_base_train`).
        rope_theta: metadata.float(&key("rope.freq_base"))?.unwrap_or(1e4),
        max_position_embeddings: metadata.require_integer(&key("context_length"))?,
        tie_word_embeddings,
        no_rope_layers,
        bos_token_id: metadata.token("tokenizer.ggml.bos_token_id")?,
        eos_token_ids: metadata
            .token("tokenizer.ggml.eos_token_id")?
            .into_iter()
            .collect(),
    })
}

/// Files that call themselves `llama` and are more than that would give wrong words, not errors.
fn refuse_variants(metadata: &Metadata, key: &dyn Fn(&str) -> String) -> Result<()> {
    let scaling = key("rope.scaling.type");
    if let Some(kind) = metadata.string(&scaling)?
        && kind != "none"
    {
        return Err(unsupported(format!(
            "{scaling}: scaled rope ({kind:?}) is not supported"
        )));
    }
    for factor in ["rope.scaling.factor", "rope.scale_linear"].map(key) {
        if let Some(value) = metadata.float(&factor)?
            && value != 0.0
            && value != 1.0
        {
            return Err(unsupported(format!(
                "{factor}: scaled rope (factor {value}) is not supported"
            )));
        }
    }
    for count in ["expert_count", "attention.sliding_window"].map(key) {
        if let Some(value) = metadata.integer(&count)?
            && value != 0
        {
            return Err(unsupported(format!("{count} {value} is not supported")));
        }
    }
    Ok(())
}
