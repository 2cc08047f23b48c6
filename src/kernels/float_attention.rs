//! Attention over a cache of floats, for checkpoints that are not quantized: nothing is rounded to integers, for nearly three times the memory.

use super::backend::dispatch;
use super::dense::dot;
use super::pool;
use super::simd::{Exp, Simd, exp, lanes, max_lane, sum};
use std::cell::RefCell;
use std::collections::TryReserveError;
use std::ops::Range;

/// One layer's keys and values as floats, each (kv_heads, capacity, head_dim).
#[derive(Debug, Clone)]
pub struct FloatKvLayer {
    keys: Vec<f32>,
    values: Vec<f32>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl FloatKvLayer {
    /// Room for `capacity` positions.
    ///
    /// # Errors
    /// Where the memory cannot be had.
    ///
    /// # Panics
    /// Where `head_dim` is no multiple of 8.
    pub fn new(kv_heads: usize, head_dim: usize, capacity: usize) -> Result<Self, TryReserveError> {
        assert!(head_dim.is_multiple_of(8));
        let elements = kv_heads.saturating_mul(capacity).saturating_mul(head_dim);
        Ok(Self {
            keys: super::kv::zeros(elements)?,
            values: super::kv::zeros(elements)?,
            kv_heads,
            head_dim,
            capacity,
        })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        4 * (self.keys.len() + self.values.len())
    }

    /// Bytes in memory of one that is not there yet.
    pub fn bytes_of(kv_heads: usize, head_dim: usize, capacity: usize) -> u64 {
        (capacity as u64).saturating_mul((2 * kv_heads * head_dim * size_of::<f32>()) as u64)
    }

    /// Stores a position's key and value, each (kv_heads, head_dim).
    ///
    /// # Panics
    /// Where the position is beyond the capacity or a length is wrong.
    pub fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let d = self.head_dim;
        assert!(position < self.capacity, "position");
        assert!(
            key.len() == self.kv_heads * d && value.len() == key.len(),
            "width"
        );
        let heads = key.chunks_exact(d).zip(value.chunks_exact(d));
        for (head, (key, value)) in heads.enumerate() {
            let at = (head * self.capacity + position) * d;
            self.keys[at..at + d].copy_from_slice(key);
            self.values[at..at + d].copy_from_slice(value);
        }
    }

    /// Bytes that [`save`](Self::save) writes.
    pub fn saved_bytes(&self) -> usize {
        self.kv_heads * self.head_dim * 2 * size_of::<f32>()
    }

    /// Appends a position's keys and values, each (kv_heads, head_dim), to `out`, little-endian.
    ///
    /// # Panics
    /// Where the position is beyond the capacity.
    pub fn save(&self, position: usize, out: &mut Vec<u8>) {
        assert!(position < self.capacity, "position");
        for vectors in [&self.keys, &self.values] {
            for head in 0..self.kv_heads {
                let at = (head * self.capacity + position) * self.head_dim;
                let vector = vectors[at..][..self.head_dim].iter();
                out.extend(vector.flat_map(|x| x.to_le_bytes()));
            }
        }
    }

    /// Stores a position as [`save`](Self::save) wrote it; false where something is no number.
    ///
    /// # Panics
    /// Where the position is beyond the capacity or the length is not that of `saved_bytes`.
    #[must_use]
    pub fn restore(&mut self, position: usize, bytes: &[u8]) -> bool {
        assert!(position < self.capacity, "position");
        assert_eq!(bytes.len(), self.saved_bytes(), "length");
        let floats: Vec<f32> = (bytes.as_chunks().0.iter())
            .map(|x| f32::from_le_bytes(*x))
            .collect();
        let (key, value) = floats.split_at(floats.len() / 2);
        self.store(position, key, value);
        floats.iter().all(|x| x.is_finite())
    }
}

/// As [`attend`](super::attend), in floats.
///
/// # Panics
/// Where the shapes do not fit together.
pub fn attend_in_floats(kv: &FloatKvLayer, heads: usize, start: usize, q: &[f32], out: &mut [f32]) {
    let width = heads * kv.head_dim;
    assert!(width > 0 && heads.is_multiple_of(kv.kv_heads), "heads");
    assert!(q.len().is_multiple_of(width), "queries");
    let tokens = q.len() / width;
    assert!(start + tokens <= kv.capacity, "positions");
    assert_eq!(out.len(), q.len(), "output");
    let task = Task {
        kv,
        heads,
        start,
        q,
        out: Output(out.as_mut_ptr()),
    };
    pool::for_ranges(tokens * heads, 3, |range| {
        // SAFETY: the lengths were checked above, and no two ranges share a head's output.
        unsafe { heads_range(&task, range) }
    });
}

struct Task<'a> {
    kv: &'a FloatKvLayer,
    heads: usize,
    start: usize,
    q: &'a [f32],
    out: Output,
}

/// Where the heads' outputs go; threads write disjoint ones.
struct Output(*mut f32);
// SAFETY: `attend_in_floats` gives every thread heads of its own, and returns after all are done.
unsafe impl Sync for Output {}

dispatch! {
    fn heads_range(task: &Task<'_>, range: Range<usize>) = heads_range_with;
}

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// # Safety
/// Shapes as checked in [`attend_in_floats`]; `range` counts (token, head) pairs.
#[inline(always)]
unsafe fn heads_range_with<S: Simd>(task: &Task<'_>, range: Range<usize>) {
    let FloatKvLayer {
        kv_heads,
        head_dim,
        capacity,
        ..
    } = *task.kv;
    let heads = task.heads;
    // Taken and put back: a closure of `with` would not be compiled for the back end's instructions.
    let mut scores = SCORES.take();
    for i in range {
        let (token, head) = (i / heads, i % heads);
        let seen = task.start + token + 1;
        let q = &task.q[i * head_dim..][..head_dim];
        let kv = head / (heads / kv_heads) * capacity * head_dim;
        let keys = &task.kv.keys[kv..][..seen * head_dim];
        let values = &task.kv.values[kv..][..seen * head_dim];
        // SAFETY: output i lies within (tokens, heads, head_dim), and is this task's alone.
        unsafe {
            let out = std::slice::from_raw_parts_mut(task.out.0.add(i * head_dim), head_dim);
            one_head::<S>(q, keys, values, &mut scores, out);
        }
    }
    SCORES.set(scores);
}

/// # Safety
/// keys, values: (seen, q.len()); out as long as q; a multiple of 8.
#[inline(always)]
unsafe fn one_head<S: Simd>(
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let head_dim = q.len();
    let seen = keys.len() / head_dim;
    // SAFETY: all loads are of eight floats of chunks of eight; `scores` is padded to a multiple of 8.
    unsafe {
        let scale = 1.0 / (head_dim as f32).sqrt();
        scores.clear();
        scores.resize(seen.next_multiple_of(8), f32::NEG_INFINITY);
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            *score = dot::<S>(q, key) * scale;
        }
        let mut largest = S::splat(f32::NEG_INFINITY);
        for s in scores.chunks_exact(8) {
            largest = S::max(S::load(s.as_ptr()), largest);
        }
        let largest = S::splat(max_lane::<S>(largest));
        for s in scores.chunks_exact_mut(8) {
            let e = exp::<S>(S::sub(S::load(s.as_ptr()), largest), Exp::constants());
            S::store(s.as_mut_ptr(), e);
        }
        // exp's range ends above zero: padding must not count.
        scores[seen..].fill(0.0);
        let mut total = S::splat(0.0);
        for s in scores.chunks_exact(8) {
            total = S::add(total, S::load(s.as_ptr()));
        }
        let inverse = S::splat(1.0 / sum::<S>(total));
        let mut column = 0;
        while column + 32 <= head_dim {
            weighted_sum::<S, 4>(scores, values, head_dim, column, inverse, out);
            column += 32;
        }
        while column < head_dim {
            weighted_sum::<S, 1>(scores, values, head_dim, column, inverse, out);
            column += 8;
        }
    }
}

/// Columns `column..column + 8 N` of `Σ_t p[t] · values[t]`, t rising.
///
/// # Safety
/// The columns lie within head_dim; values (seen, head_dim), seen ≤ p.len(); out (head_dim).
#[inline(always)]
unsafe fn weighted_sum<S: Simd, const N: usize>(
    p: &[f32],
    values: &[f32],
    head_dim: usize,
    column: usize,
    inverse: S::Float,
    out: &mut [f32],
) {
    // SAFETY: as said.
    unsafe {
        let mut acc = [S::splat(0.0); N];
        for (v, &p) in values.chunks_exact(head_dim).zip(p) {
            let p = S::splat(p);
            let v = v.as_ptr().add(column);
            for n in 0..N {
                acc[n] = S::add(acc[n], S::mul(p, S::load(v.add(8 * n))));
            }
        }
        for (n, &acc) in acc.iter().enumerate() {
            let lanes = lanes::<S>(S::mul(acc, inverse));
            out[column + 8 * n..][..8].copy_from_slice(&lanes);
        }
    }
}
