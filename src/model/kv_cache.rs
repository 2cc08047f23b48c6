//! Keys and values of the positions read so far, allocated once.

use super::ModelId;
use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{FloatKvLayer, KvLayer, attend, attend_in_floats};

/// The memory of one conversation; belongs to the caller, serves the model that made it.
#[derive(Debug)]
pub struct KvCache {
    model: ModelId,
    layers: Vec<Layer>,
    len: usize,
    capacity: usize,
}

/// How keys and values are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CachePrecision {
    Integer,
    Float,
}

impl CachePrecision {
    /// Where the weights are floats, nothing else shall be rounded either.
    pub fn of(quantization: &str) -> Self {
        match quantization {
            "float32" => Self::Float,
            _ => Self::Integer,
        }
    }
}

/// One layer's keys and values.
#[derive(Debug)]
pub(super) enum Layer {
    /// For quantized weights: 13 bits a key and 8 a value, three eighths of the memory of floats.
    Integer(KvLayer),
    /// For float weights, which promise float results.
    Float(FloatKvLayer),
}

impl KvCache {
    pub(super) fn new(
        model: ModelId,
        config: &ModelConfig,
        precision: CachePrecision,
        capacity: usize,
    ) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::invalid_argument(
                "context length: 0 positions hold nothing",
            ));
        }
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                let (heads, head_dim) = (config.num_key_value_heads, config.head_dim);
                match precision {
                    CachePrecision::Integer => {
                        KvLayer::new(heads, head_dim, capacity).map(Layer::Integer)
                    }
                    CachePrecision::Float => {
                        FloatKvLayer::new(heads, head_dim, capacity).map(Layer::Float)
                    }
                }
                .map_err(|e| out_of_memory(capacity).caused_by(e))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            model,
            layers,
            len: 0,
            capacity,
        })
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.layers.iter().map(Layer::bytes).sum()
    }

    /// Bytes in memory of one that is not there yet.
    pub(super) fn bytes_of(
        config: &ModelConfig,
        precision: CachePrecision,
        capacity: usize,
    ) -> u64 {
        let (heads, head_dim) = (config.num_key_value_heads, config.head_dim);
        let layer = match precision {
            CachePrecision::Integer => KvLayer::bytes_of(heads, head_dim, capacity),
            CachePrecision::Float => FloatKvLayer::bytes_of(heads, head_dim, capacity),
        };
        layer.saturating_mul(config.num_hidden_layers as u64)
    }

    /// Forgets all positions from `len` on.
    ///
    /// # Errors
    /// `invalid_argument` where fewer are held.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len {
            return Err(Error::invalid_argument(format!(
                "cannot truncate a cache of {} positions to {len}",
                self.len
            )));
        }
        self.len = len;
        Ok(())
    }

    pub(super) fn belongs_to(&self, model: ModelId) -> bool {
        self.model == model
    }

    pub(super) fn layer(&mut self, index: usize) -> &mut Layer {
        &mut self.layers[index]
    }

    /// Counts positions whose keys and values every layer has stored.
    pub(super) fn extend(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

impl Layer {
    /// Stores a position's key and value, each (kv_heads, head_dim).
    pub fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::Integer(kv) => kv.store(position, key, value),
            Self::Float(kv) => kv.store(position, key, value),
        }
    }

    /// Causal attention of the queries q (tokens, heads, head_dim), the first at position `start`; out likewise.
    pub fn attend(&self, heads: usize, start: usize, q: &[f32], out: &mut [f32]) {
        match self {
            Self::Integer(kv) => attend(kv, heads, start, q, out),
            Self::Float(kv) => attend_in_floats(kv, heads, start, q, out),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Integer(kv) => kv.bytes(),
            Self::Float(kv) => kv.bytes(),
        }
    }
}

fn out_of_memory(capacity: usize) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("no memory for a context of {capacity} positions; choose a shorter one"),
    )
}
