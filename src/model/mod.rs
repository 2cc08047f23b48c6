//! The forward pass of the Llama family: SmolLM, SmolLM2 and, with layers that leave RoPE out, SmolLM3.
//!
//! ```text
//! x = embedding[ids]                                    (tokens, hidden)
//! for each layer:
//!     x = x + attention(rms_norm(x))                    grouped queries, rotary positions, causal
//!     x = x + down(silu(gate(h)) · up(h)),  h = rms_norm(x)
//! logits = head(rms_norm(x))                            (tokens, vocab)
//! ```
//!
//! A [`Model`] never changes; what a conversation adds up lives in a [`KvCache`] of its caller. The same ids give the
//! same bits, in one call or in many.

mod attention;
mod builder;
mod digest;
mod kv_cache;
mod mlp;
mod norm;
mod op;
mod outline;
mod rope;
mod weights;

pub use builder::{ModelBuilder, Precision};
pub use digest::DIGEST_BYTES;
use kv_cache::CachePrecision;
pub use kv_cache::KvCache;
pub use outline::Outline;

use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::int4::Linear;
use crate::token::TokenId;
use attention::Attention;
use candle_core::{Device, Tensor};
use mlp::Mlp;
use norm::RmsNorm;
use rope::Rope;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Weights and the pass through them.
#[derive(Debug)]
pub struct Model {
    id: ModelId,
    config: ModelConfig,
    embedding: Linear,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// `None` where the embedding serves.
    head: Option<Linear>,
    quantization: &'static str,
    digest: OnceLock<[u8; DIGEST_BYTES]>,
}

/// Tells one loaded model from another, so that a cache cannot serve the wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ModelId(u64);

impl ModelId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Which positions' logits a pass gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// None: the pass only fills the cache.
    None,
    /// The last position's: (1, vocab).
    Last,
    /// Every position's: (tokens, vocab).
    All,
}

#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    /// x (tokens, hidden) → (tokens, hidden)
    fn forward(
        &self,
        x: &Tensor,
        rope: &Rope,
        cache: &mut kv_cache::Layer,
        start: usize,
    ) -> Result<Tensor> {
        let attended =
            self.attention
                .forward(&self.attention_norm.forward(x)?, rope, cache, start)?;
        let x = (x + attended)?;
        let thought = self.mlp.forward(&self.mlp_norm.forward(&x)?)?;
        Ok((x + thought)?)
    }
}

impl Model {
    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A cache for up to `capacity` positions of this model.
    ///
    /// # Errors
    /// `invalid_argument` for 0, `out_of_memory` where it cannot be allocated.
    pub fn new_cache(&self, capacity: usize) -> Result<KvCache> {
        let precision = CachePrecision::of(self.quantization);
        KvCache::new(self.id, &self.config, precision, capacity)
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        self.config.parameters()
    }

    /// Bytes that the weights take in memory.
    pub fn weight_bytes(&self) -> usize {
        let layers = self
            .layers
            .iter()
            .map(|l| l.attention.bytes() + l.mlp.bytes())
            .sum::<usize>();
        layers + self.embedding.bytes() + self.head.as_ref().map_or(0, Linear::bytes)
    }

    /// How the layers' matrices are held: `"int4"`, `"int8"` or `"float32"`.
    pub fn quantization(&self) -> &'static str {
        self.quantization
    }

    /// Reads `ids` after what `cache` holds, and adds them to it. Returns the logits asked for, row-major.
    ///
    /// # Errors
    /// `invalid_argument` for no ids, an id outside the vocabulary, or another model's cache; `context_overflow` where the
    /// cache lacks room. After an error the cache is as before.
    pub fn forward(
        &self,
        ids: &[TokenId],
        cache: &mut KvCache,
        logits: Logits,
    ) -> Result<Vec<f32>> {
        self.forward_observed(ids, cache, logits, &mut |_, _| {})
    }

    /// [`Model::forward`], which shows `observe` the hidden states (tokens, hidden) under the names `embedding`, `layer.0`, …,
    /// and `norm` (only of the positions whose logits are asked for).
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_observed(
        &self,
        ids: &[TokenId],
        cache: &mut KvCache,
        logits: Logits,
        observe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Vec<f32>> {
        self.check(ids, cache)?;
        let start = cache.len();
        let rope = Rope::new(&self.config, start, ids.len());
        let ids: Vec<u32> = ids.iter().map(|id| id.0).collect();
        let tokens = ids.len();
        let mut x = self
            .embedding
            .embedding(&Tensor::from_vec(ids, tokens, &Device::Cpu)?)?;
        observe("embedding", &x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &rope, cache.layer(index), start)?;
            observe(&format!("layer.{index}"), &x);
        }
        cache.extend(tokens);
        let x = match logits {
            Logits::None => return Ok(Vec::new()),
            Logits::Last => x.narrow(0, tokens - 1, 1)?.contiguous()?,
            Logits::All => x,
        };
        let x = self.norm.forward(&x)?;
        observe("norm", &x);
        let logits = self.head.as_ref().unwrap_or(&self.embedding).forward(&x)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    fn check(&self, ids: &[TokenId], cache: &KvCache) -> Result<()> {
        if !cache.belongs_to(self.id) {
            return Err(Error::invalid_argument(
                "the cache was made for another model",
            ));
        }
        if ids.is_empty() {
            return Err(Error::invalid_argument("no tokens to read"));
        }
        let vocab = self.config.vocab_size;
        if let Some(id) = ids.iter().find(|id| id.0 as usize >= vocab) {
            return Err(Error::invalid_argument(format!(
                "token id {} is outside the vocabulary of {vocab}",
                id.0
            )));
        }
        if cache.len() + ids.len() > cache.capacity() {
            return Err(Error::new(
                ErrorKind::ContextOverflow,
                format!(
                    "{} tokens after {} do not fit into a context of {}",
                    ids.len(),
                    cache.len(),
                    cache.capacity()
                ),
            ));
        }
        Ok(())
    }
}
