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

    /// Bytes that one position takes in [`save_position`](Self::save_position).
    pub fn position_bytes(&self) -> usize {
        self.layers.iter().map(Layer::saved_bytes).sum()
    }

    /// Appends what is held of a position to `out`, layer after layer: the same bytes wherever the same model has read the
    /// same tokens.
    ///
    /// # Panics
    /// Where the position is not held.
    pub fn save_position(&self, position: usize, out: &mut Vec<u8>) {
        assert!(position < self.len, "position");
        for layer in &self.layers {
            layer.save(position, out);
        }
    }

    /// Holds one position more, as [`save_position`](Self::save_position) gave it. That the same model did, and for the token
    /// that its caller takes it for, is the caller's to know.
    ///
    /// # Errors
    /// `context_overflow` where there is no room, `integrity` where the bytes are too many or too few, or no keys and values.
    /// The cache holds what it held.
    pub fn restore_position(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len == self.capacity {
            return Err(Error::new(
                ErrorKind::ContextOverflow,
                format!("a context of {} holds no more positions", self.capacity),
            ));
        }
        if bytes.len() != self.position_bytes() {
            return Err(damaged(self.len));
        }
        let mut rest = bytes;
        for layer in &mut self.layers {
            let (bytes, after) = rest.split_at(layer.saved_bytes());
            if !layer.restore(self.len, bytes) {
                return Err(damaged(self.len));
            }
            rest = after;
        }
        self.len += 1;
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

    fn saved_bytes(&self) -> usize {
        match self {
            Self::Integer(kv) => kv.saved_bytes(),
            Self::Float(kv) => kv.saved_bytes(),
        }
    }

    fn save(&self, position: usize, out: &mut Vec<u8>) {
        match self {
            Self::Integer(kv) => kv.save(position, out),
            Self::Float(kv) => kv.save(position, out),
        }
    }

    fn restore(&mut self, position: usize, bytes: &[u8]) -> bool {
        match self {
            Self::Integer(kv) => kv.restore(position, bytes),
            Self::Float(kv) => kv.restore(position, bytes),
        }
    }
}

fn damaged(position: usize) -> Error {
    Error::new(
        ErrorKind::Integrity,
        format!("position {position}: these bytes are no keys and values"),
    )
}

fn out_of_memory(capacity: usize) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("no memory for a context of {capacity} positions; choose a shorter one"),
    )
}
