//! Hugging Face's `config.json`, in the spellings of transformers 4 and 5.

use super::{
    Architecture, DEFAULT_NO_ROPE_INTERVAL, MAX_LAYERS, ModelConfig, no_rope_by_interval,
    unsupported,
};
use crate::error::{Error, ErrorKind, Result};
use crate::token::TokenId;
use serde_json::{Map, Value, json};

/// One JSON object whose getters name the key in errors. A null counts as absent, as in transformers.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(found) => Ok(Some(found)),
                None => {
                    let found: String = value.to_string().chars().take(60).collect();
                    Err(Error::not_a_model(format!(
                        "config.json: {key}: expected {expected}, found {found}"
                    )))
                }
            },
        }
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a count", |value| {
            value.as_u64().and_then(|count| count.try_into().ok())
        })
    }

    fn require_count(&self, key: &str) -> Result<usize> {
        self.count(key)?
            .ok_or_else(|| Error::not_a_model(format!("config.json has no {key}")))
    }

    fn number(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| value.as_f64().map(|x| x as f32))
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    fn object(&self, key: &str) -> Result<Option<Object<'a>>> {
        self.typed(key, "an object", |value| value.as_object().map(Object))
    }
}

/// Token ids, given as one number or a list.
pub(super) fn token_ids(value: &Value) -> Option<Vec<TokenId>> {
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .map(TokenId)
    };
    match value {
        Value::Array(values) => values.iter().map(id).collect(),
        single => id(single).map(|id| vec![id]),
    }
}

/// Reads the numbers; [`ModelConfig::from_json`] checks them.
pub(super) fn read(text: &str) -> Result<ModelConfig> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::not_a_model(format!("config.json is not JSON: {e}")).caused_by(e))?;
    let object = value
        .as_object()
        .map(Object)
        .ok_or_else(|| Error::not_a_model("config.json is not a JSON object"))?;
    let architecture = architecture(&object)?;
    refuse_variants(&object)?;

    let hidden_size = object.require_count("hidden_size")?;
    let heads = object.require_count("num_attention_heads")?;
    let layers = object.require_count("num_hidden_layers")?;
    let head_dim = match object.count("head_dim")? {
        Some(size) => size,
        None if heads == 0 || !hidden_size.is_multiple_of(heads) => {
            return Err(Error::not_a_model(format!(
                "config.json: num_attention_heads: {heads} heads do not divide hidden_size {hidden_size}"
            )));
        }
        None => hidden_size / heads,
    };
    // The defaults of LlamaConfig and SmolLM3Config in transformers.
    let (default_theta, default_positions, default_tied) = match architecture {
        Architecture::Llama => (1e4, 2048, false),
        Architecture::SmolLm3 => (2e6, 32768, true),
    };
    let eos = object.typed("eos_token_id", "a token id or a list of them", token_ids)?;
    let bos = object.typed("bos_token_id", "a token id", |value| {
        token_ids(value)?.into_iter().next()
    })?;
    Ok(ModelConfig {
        architecture,
        vocab_size: object.require_count("vocab_size")?,
        hidden_size,
        intermediate_size: object.require_count("intermediate_size")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: object.count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        rms_norm_eps: object.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rope_theta(&object)?.unwrap_or(default_theta),
        max_position_embeddings: object
            .count("max_position_embeddings")?
            .unwrap_or(default_positions),
        tie_word_embeddings: object
            .boolean("tie_word_embeddings")?
            .unwrap_or(default_tied),
        no_rope_layers: no_rope_layers(&object, architecture, layers)?,
        bos_token_id: bos,
        eos_token_ids: eos.unwrap_or_default(),
    })
}

/// The other way round.
pub(super) fn write(config: &ModelConfig) -> Value {
    let class = match config.architecture {
        Architecture::Llama => "LlamaForCausalLM",
        Architecture::SmolLm3 => "SmolLM3ForCausalLM",
    };
    let mut value = json!({
        "architectures": [class],
        "model_type": config.architecture.name(),
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": shortest(config.rms_norm_eps),
        "rope_theta": shortest(config.rope_theta),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "eos_token_id": config.eos_token_ids.iter().map(|id| id.0).collect::<Vec<_>>(),
    });
    if config.architecture == Architecture::SmolLm3 {
        let uses = config.no_rope_layers.iter().map(|skips| u8::from(!skips));
        value["no_rope_layers"] = uses.collect();
    }
    if let Some(bos) = config.bos_token_id {
        value["bos_token_id"] = bos.0.into();
    }
    value
}

/// The shortest decimal number that is this float: 1e-5, not 9.999999747378752e-6.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| x.into())
}

fn architecture(object: &Object) -> Result<Architecture> {
    let listed = object.typed("architectures", "a list of names", |value| {
        value
            .as_array()?
            .iter()
            .map(Value::as_str)
            .collect::<Option<Vec<_>>>()
    })?;
    match listed.as_deref() {
        Some(["LlamaForCausalLM"]) => return Ok(Architecture::Llama),
        Some(["SmolLM3ForCausalLM"]) => return Ok(Architecture::SmolLm3),
        Some([]) | None => {}
        Some(names) => {
            return Err(unsupported(format!(
                "config.json: architectures {names:?} is not supported \
                 (known: LlamaForCausalLM, SmolLM3ForCausalLM)"
            )));
        }
    }
    let name = object
        .string("model_type")?
        .ok_or_else(|| Error::not_a_model("config.json has no architectures"))?;
    Architecture::from_name(name).ok_or_else(|| {
        unsupported(format!(
            "config.json: model_type {name:?} is not supported (known: llama, smollm3)"
        ))
    })
}

/// transformers 4 writes `rope_theta` and `rope_scaling`, 5 writes both into `rope_parameters`.
fn rope_theta(object: &Object) -> Result<Option<f32>> {
    let mut theta = object.number("rope_theta")?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = object.object(key)? else {
            continue;
        };
        for kind in ["rope_type", "type"] {
            if let Some(kind) = rope.string(kind)?
                && kind != "default"
            {
                return Err(unsupported(format!(
                    "config.json: {key}: scaled rope ({kind:?}) is not supported"
                )));
            }
        }
        if let Some(inner) = rope.number("rope_theta")? {
            theta = Some(inner);
        }
        if let Some(share) = rope.number("partial_rotary_factor")?
            && share != 1.0
        {
            return Err(unsupported(format!(
                "config.json: {key}: partial_rotary_factor {share} is not supported"
            )));
        }
    }
    Ok(theta)
}

/// Hugging Face's list says 1 for a layer that *uses* RoPE, whatever its name.
fn no_rope_layers(object: &Object, architecture: Architecture, layers: usize) -> Result<Vec<bool>> {
    if architecture == Architecture::Llama {
        return Ok(vec![false; layers.min(MAX_LAYERS + 1)]);
    }
    let listed = object.typed("no_rope_layers", "a list of 0 and 1", |value| {
        value
            .as_array()?
            .iter()
            .map(|uses| match uses.as_u64() {
                Some(uses @ (0 | 1)) => Some(uses == 0),
                _ => None,
            })
            .collect()
    })?;
    if let Some(listed) = listed {
        return Ok(listed);
    }
    match object.count("no_rope_layer_interval")? {
        Some(0) => Err(Error::not_a_model(
            "config.json: no_rope_layer_interval: 0 is not an interval",
        )),
        interval => Ok(no_rope_by_interval(
            layers,
            interval.unwrap_or(DEFAULT_NO_ROPE_INTERVAL),
        )),
    }
}

fn refuse_variants(object: &Object) -> Result<()> {
    // transformers calls the same function "silu" and "swish".
    if let Some(activation) = object.string("hidden_act")?
        && !matches!(activation, "silu" | "swish")
    {
        return Err(unsupported(format!(
            "config.json: hidden_act {activation:?} is not supported (known: silu)"
        )));
    }
    for key in [
        "attention_bias",
        "mlp_bias",
        "use_sliding_window",
        "rope_interleaved",
    ] {
        if object.boolean(key)? == Some(true) {
            return Err(unsupported(format!(
                "config.json: {key} true is not supported"
            )));
        }
    }
    if let Some(share) = object.number("partial_rotary_factor")?
        && share != 1.0
    {
        return Err(unsupported(format!(
            "config.json: partial_rotary_factor {share} is not supported"
        )));
    }
    if let Some(quantization) = object.object("quantization_config")? {
        let method = quantization.string("quant_method")?.unwrap_or("unnamed");
        return Err(Error::new(
            ErrorKind::UnsupportedQuantization,
            format!("config.json: quantization_config: {method} checkpoints are not supported"),
        ));
    }
    Ok(())
}
