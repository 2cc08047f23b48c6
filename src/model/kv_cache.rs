//! Keys and values of the positions read so far, allocated once.

use super::ModelId;
use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};

/// The memory of one conversation; belongs to the caller, serves the model that made it.
#[derive(Debug)]
pub struct KvCache {
    model: ModelId,
    layers: Vec<Layer>,
    len: usize,
    capacity: usize,
}

/// One layer's keys and values, each (kv_heads, capacity, head_dim).
#[derive(Debug)]
pub(super) struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
    head_dim: usize,
}

impl KvCache {
    pub(super) fn new(model: ModelId, config: &ModelConfig, capacity: usize) -> Result<Self> {
        if capacity == 0 {
            return Err(Error::invalid_argument(
                "context length: 0 positions hold nothing",
            ));
        }
        let elements = capacity
            .checked_mul(config.kv_dim())
            .ok_or_else(|| out_of_memory(capacity))?;
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                Ok(Layer {
                    keys: allocate(elements, capacity)?,
                    values: allocate(elements, capacity)?,
                    capacity,
                    head_dim: config.head_dim,
                })
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
        self.layers
            .iter()
            .map(|l| size_of_val(&l.keys[..]) + size_of_val(&l.values[..]))
            .sum()
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
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn keys(&self) -> &[f32] {
        &self.keys
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Stores a position's key and value, each (kv_heads · head_dim).
    pub fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let d = self.head_dim;
        let heads = key.chunks_exact(d).zip(value.chunks_exact(d));
        for (head, (key, value)) in heads.enumerate() {
            let at = (head * self.capacity + position) * d;
            self.keys[at..at + d].copy_from_slice(key);
            self.values[at..at + d].copy_from_slice(value);
        }
    }

    /// The stored keys of a position, head by head.
    pub fn keys_at(&mut self, position: usize) -> impl Iterator<Item = &mut [f32]> {
        let d = self.head_dim;
        let heads = self.keys.chunks_exact_mut(self.capacity * d);
        heads.map(move |head| &mut head[position * d..(position + 1) * d])
    }
}

fn allocate(elements: usize, capacity: usize) -> Result<Vec<f32>> {
    let mut v = Vec::new();
    v.try_reserve_exact(elements)
        .map_err(|e| out_of_memory(capacity).caused_by(e))?;
    v.resize(elements, 0.0);
    Ok(v)
}

fn out_of_memory(capacity: usize) -> Error {
    Error::new(
        ErrorKind::OutOfMemory,
        format!("no memory for a context of {capacity} positions; choose a shorter one"),
    )
}
