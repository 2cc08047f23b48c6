//! What a model is: the numbers of its architecture, read from `config.json` or GGUF metadata.
//!
//! Every rule about shapes is checked here, once, before anything is allocated; the rooms behind
//! (weights, model, session) may trust a [`ModelConfig`] that exists.

mod gguf;
mod json;

pub use gguf::Metadata;

use crate::error::{Error, ErrorKind, Result};
use crate::token::TokenId;
use serde::Serialize;

/// The architectures that the forward pass knows. Both are Llama's; SmolLM3 leaves RoPE out of some
/// layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// `LlamaForCausalLM`, GGUF `llama`: SmolLM and SmolLM2.
    Llama,
    /// `SmolLM3ForCausalLM`, GGUF `smollm3`.
    SmolLm3,
}

impl Architecture {
    /// The name in GGUF's `general.architecture`, which also is Hugging Face's `model_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::SmolLm3 => "smollm3",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Llama, Self::SmolLm3]
            .into_iter()
            .find(|architecture| architecture.name() == name)
    }
}

/// The numbers of one model. Sizes are element counts.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which forward pass.
    pub architecture: Architecture,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of one head. Need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// The ε of every RMSNorm.
    pub rms_norm_eps: f32,
    /// The base θ of the rotary frequencies θ^(-2i/head_dim).
    pub rope_theta: f32,
    /// Positions the model was trained for.
    pub max_position_embeddings: usize,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// One entry a layer; `true` where the layer leaves RoPE out.
    pub no_rope_layers: Vec<bool>,
    /// The token that begins a text, where the file names one. Never added by itself.
    pub bos_token_id: Option<TokenId>,
    /// The tokens that end a text, as far as the file names them.
    pub eos_token_ids: Vec<TokenId>,
}

/// Widths must be whole groups of the quantized blocks.
const GROUP: usize = 32;
/// Limits above every model this crate means to run (the largest, SmolLM3-3B, stays below by a
/// factor of four and more) and below anything that would make an allocation absurd.
const MAX_VOCAB: usize = 1 << 20;
const MAX_HIDDEN: usize = 1 << 14;
const MAX_INTERMEDIATE: usize = 1 << 16;
const MAX_LAYERS: usize = 512;
const MAX_HEADS: usize = 512;
const MAX_HEAD_DIM: usize = 256;
const MAX_POSITIONS: usize = 1 << 24;
const MAX_PARAMETERS: u64 = 1 << 34;

impl ModelConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// `not_a_model` for text that is no such file or has impossible numbers,
    /// `unsupported_architecture` for what the forward pass does not do (other architectures,
    /// scaled RoPE, biases, sliding windows), `unsupported_quantization` for pre-quantized
    /// checkpoints. Each names the key.
    pub fn from_json(text: &str) -> Result<Self> {
        json::read(text)?.checked(&|field| format!("config.json: {field}"))
    }

    /// The numbers as a `config.json` that [`ModelConfig::from_json`] reads back.
    pub fn to_json(&self) -> serde_json::Value {
        json::write(self)
    }

    /// Reads the metadata of a GGUF file. The format has no key for a tied head, so
    /// `tie_word_embeddings` is the caller's: true where the file has no `output.weight`.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`].
    pub fn from_gguf(metadata: &Metadata, tie_word_embeddings: bool) -> Result<Self> {
        let config = gguf::read(metadata, tie_word_embeddings)?;
        let prefix = config.architecture.name();
        config.checked(&|field| gguf::key_of(prefix, field))
    }

    /// Token ids as these files write them: one number, or a list. `None` for anything else.
    pub fn token_ids(value: &serde_json::Value) -> Option<Vec<TokenId>> {
        json::token_ids(value)
    }

    /// Width of all query heads together: rows of Q, columns of O.
    pub fn q_dim(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together: rows of K and of V.
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every rule about the numbers. `label` turns a field's name into the key of the file at hand.
    fn checked(self, label: &dyn Fn(&'static str) -> String) -> Result<Self> {
        let absurd = |field, value: usize, rule: &str| {
            Error::not_a_model(format!("{}: {value} {rule}", label(field)))
        };
        for (field, value, limit) in [
            ("vocab_size", self.vocab_size, MAX_VOCAB),
            ("hidden_size", self.hidden_size, MAX_HIDDEN),
            (
                "intermediate_size",
                self.intermediate_size,
                MAX_INTERMEDIATE,
            ),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_POSITIONS,
            ),
        ] {
            if value == 0 || value > limit {
                return Err(absurd(field, value, &format!("is not in 1..={limit}")));
            }
        }
        if self.head_dim == 0 || self.head_dim > MAX_HEAD_DIM || !self.head_dim.is_multiple_of(2) {
            let rule = format!("is not an even number in 2..={MAX_HEAD_DIM}");
            return Err(absurd("head_dim", self.head_dim, &rule));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            let rule = format!(
                "does not divide the {} attention heads",
                self.num_attention_heads
            );
            return Err(absurd(
                "num_key_value_heads",
                self.num_key_value_heads,
                &rule,
            ));
        }
        for (field, value) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads times head_dim", self.q_dim()),
        ] {
            if !value.is_multiple_of(GROUP) {
                return Err(Error::new(
                    ErrorKind::UnsupportedArchitecture,
                    format!("{}: {value} is not a multiple of {GROUP}", label(field)),
                ));
            }
        }
        if !self.head_dim.is_multiple_of(8) {
            return Err(Error::new(
                ErrorKind::UnsupportedArchitecture,
                format!(
                    "{}: {} is not a multiple of 8",
                    label("head_dim"),
                    self.head_dim
                ),
            ));
        }
        let parameters = self.parameters();
        if parameters > MAX_PARAMETERS {
            return Err(Error::not_a_model(format!(
                "{}: the sizes make {parameters} parameters, more than {MAX_PARAMETERS}",
                label("num_hidden_layers")
            )));
        }
        // Both must be finite and positive: neither a NaN nor an infinity passes the range.
        for (field, value, range) in [
            ("rms_norm_eps", self.rms_norm_eps, 1e-12..=1e-1),
            ("rope_theta", self.rope_theta, 1.0..=1e12),
        ] {
            if !range.contains(&value) {
                return Err(Error::not_a_model(format!(
                    "{}: {value} is not in {:e}..={:e}",
                    label(field),
                    range.start(),
                    range.end()
                )));
            }
        }
        if self.no_rope_layers.len() != self.num_hidden_layers {
            let rule = format!("entries for {} layers", self.num_hidden_layers);
            return Err(absurd("no_rope_layers", self.no_rope_layers.len(), &rule));
        }
        let ids = self.eos_token_ids.iter().map(|id| ("eos_token_id", id));
        let bos = self.bos_token_id.iter().map(|id| ("bos_token_id", id));
        for (field, id) in ids.chain(bos) {
            if id.0 as usize >= self.vocab_size {
                let rule = format!("is outside the vocabulary of {}", self.vocab_size);
                return Err(absurd(field, id.0 as usize, &rule));
            }
        }
        Ok(self)
    }

    /// Weights of the model, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        let [vocab, hidden, inner, q, kv] = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.q_dim(),
            self.kv_dim(),
        ]
        .map(|size| size as u64);
        let heads = if self.tie_word_embeddings { 1 } else { 2 };
        let layer = hidden * (2 * q + 2 * kv + 3 * inner + 2);
        heads * vocab * hidden + self.num_hidden_layers as u64 * layer + hidden
    }
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedArchitecture, message)
}

/// SmolLM3's rule where a file lists no layers: every `interval`-th layer goes without RoPE
/// (`SmolLM3Config` in transformers; llama.cpp's `n_no_rope_layer_step`).
fn no_rope_by_interval(layers: usize, interval: usize) -> Vec<bool> {
    // A hostile layer count must not allocate before `checked` refuses it.
    (0..layers.min(MAX_LAYERS + 1))
        .map(|layer| (layer + 1).is_multiple_of(interval))
        .collect()
}

/// `SmolLM3Config.no_rope_layer_interval`.
const DEFAULT_NO_ROPE_INTERVAL: usize = 4;
