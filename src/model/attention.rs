//! Grouped-query attention (Ainslie et al. 2023) over the KV cache.

use super::kv_cache;
use super::op::floats;
use super::rope::Rope;
use crate::error::Result;
use crate::int4::Linear;
use crate::kernels;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use std::cell::RefCell;

#[derive(Debug)]
pub(super) struct Attention {
    /// Queries over keys over values: ((heads + 2 · kv_heads) · head_dim, hidden).
    pub qkv: Linear,
    /// (hidden, heads · head_dim)
    pub out: Linear,
    pub heads: usize,
    pub head_dim: usize,
    /// False in SmolLM3's layers without positions (NoPE; Yang et al. 2025).
    pub rotary: bool,
}

impl Attention {
    /// x (tokens, hidden) → (tokens, hidden); the tokens' keys and values go into `cache` from position `start` on.
    pub fn forward(
        &self,
        x: &Tensor,
        rope: &Rope,
        cache: &mut kv_cache::Layer,
        start: usize,
    ) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?;
        let attended = qkv.apply_op1_no_bwd(&Attend {
            heads: self.heads,
            head_dim: self.head_dim,
            rope: self.rotary.then_some(rope),
            cache: RefCell::new(cache),
            start,
        })?;
        self.out.forward(&attended)
    }

    pub fn bytes(&self) -> usize {
        self.qkv.bytes() + self.out.bytes()
    }
}

/// Rotates queries and keys, stores keys and values, attends.
struct Attend<'a> {
    heads: usize,
    head_dim: usize,
    rope: Option<&'a Rope>,
    /// Candle hands operations out by shared reference.
    cache: RefCell<&'a mut kv_cache::Layer>,
    start: usize,
}

impl CustomOp1 for Attend<'_> {
    fn name(&self) -> &'static str {
        "attend"
    }

    /// (tokens, (heads + 2 · kv_heads) · head_dim) → (tokens, heads · head_dim)
    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, row) = layout.shape().dims2()?;
        let mut cache = self.cache.borrow_mut();
        let q_dim = self.heads * self.head_dim;
        let kv_dim = (row - q_dim) / 2;
        let mut queries = Vec::with_capacity(tokens * q_dim);
        let mut keys = vec![0.0; kv_dim];
        for (t, qkv) in floats(x, layout)?.chunks_exact(row).enumerate() {
            let (q, kv) = qkv.split_at(q_dim);
            let (k, v) = kv.split_at(kv_dim);
            queries.extend_from_slice(q);
            keys.copy_from_slice(k);
            if let Some(rope) = self.rope {
                let (cos, sin) = rope.at(t);
                let q_heads = queries[t * q_dim..].chunks_exact_mut(self.head_dim);
                for head in q_heads.chain(keys.chunks_exact_mut(self.head_dim)) {
                    kernels::rope(head, cos, sin);
                }
            }
            cache.store(self.start + t, &keys, v);
        }
        let mut out = vec![0.0; queries.len()];
        cache.attend(self.heads, self.start, &queries, &mut out);
        Ok((CpuStorage::F32(out), (tokens, q_dim).into()))
    }
}
