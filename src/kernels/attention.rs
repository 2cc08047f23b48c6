//! Causal attention of new queries over the KV cache, in integers but for the softmax.
//!
//! For one query head with its key and value head, positions p and columns c:
//!
//! ```text
//! score[p] = f32(Σ_c q[c] · k[p][c]) · (k_scale[p] · q_scale · log2 e / √head_dim)      |q| ≤ 2,047, |k| ≤ 4,095
//! e[p]     = 2^(score[p] - max score),   w[p] = e[p] · v_scale[p]
//! u[p]     = round(w[p] · m),  m = min(32,767 / max w, 1.6·10^7 / Σ w)         u ≤ 32,767
//! out[c]   = f32(Σ_p u[p] · v[p][c]) / (m · Σ e)                              |v| ≤ 127
//! ```
//!
//! Both long sums are exact: the first is at most 256 · 2,047 · 4,095, the second 127 · Σ u, below 2^31.

use super::backend::dispatch;
use super::kv::{KvLayer, LANES, quantize};
use super::pool;
use super::simd::{Exp2, Simd, exp2, max_lane, sum};
use std::cell::RefCell;
use std::f32::consts::LOG2_E;
use std::ops::Range;

/// Most that the weights u of one query may sum up to, but for rounding: 127 times as much stays below 2^31.
const MAX_WEIGHT: f32 = 1.6e7;

/// `out[t] = softmax(q[t] · Kᵀ / sqrt(head_dim)) · V` over positions `0..=start + t`, grouped queries (Ainslie et al.
/// 2023): `heads / kv_heads` query heads share a head of keys and values.
///
/// q, out: (tokens, heads · head_dim). A query's result depends on nothing but itself and the positions it sees.
///
/// # Panics
/// Where the shapes do not fit together.
pub fn attend(kv: &KvLayer, heads: usize, start: usize, q: &[f32], out: &mut [f32]) {
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
        tokens,
        q,
        out: Output(out.as_mut_ptr()),
    };
    // A few positions are read faster than other threads wake up.
    let total = tokens * kv.kv_heads;
    let grain = if total * (start + tokens) < 256 {
        total
    } else {
        1
    };
    pool::for_ranges(total, grain, |range| {
        // SAFETY: the lengths were checked above, and no two ranges share a head's output.
        unsafe { heads_range(&task, range) }
    });
}

struct Task<'a> {
    kv: &'a KvLayer,
    heads: usize,
    start: usize,
    tokens: usize,
    q: &'a [f32],
    out: Output,
}

/// Where the heads' outputs go; threads write disjoint ones.
struct Output(*mut f32);
// SAFETY: `attend` gives every thread heads of its own, and returns after all are done.
unsafe impl Sync for Output {}

dispatch! {
    fn heads_range(task: &Task<'_>, range: Range<usize>) = heads_range_with;
}

/// What one thread needs for one group of queries.
#[derive(Default)]
struct Scratch {
    /// (query, position): scores, then weights.
    scores: Vec<f32>,
    /// (column / 2, query, column % 2): the queries' integers, then (position / 2, query, position % 2): the weights'.
    integers: Vec<[i16; 2]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// # Safety
/// Shapes as checked in [`attend`]; `range` counts (kv_head, token) pairs.
#[inline(always)]
unsafe fn heads_range_with<S: Simd>(task: &Task<'_>, range: Range<usize>) {
    // Taken and put back: a closure of `with` would not be compiled for the back end's instructions.
    let mut scratch = SCRATCH.take();
    let shared = task.heads / task.kv.kv_heads;
    for i in range {
        let (kv_head, token) = (i / task.tokens, i % task.tokens);
        let mut head = kv_head * shared;
        // SAFETY: passed on; the heads are those that share `kv_head`.
        unsafe {
            while head < (kv_head + 1) * shared {
                head += match (kv_head + 1) * shared - head {
                    1 => some_heads::<S, 1>(task, token, head, &mut scratch),
                    2 => some_heads::<S, 2>(task, token, head, &mut scratch),
                    _ => some_heads::<S, 3>(task, token, head, &mut scratch),
                };
            }
        }
    }
    SCRATCH.set(scratch);
}

/// One token's heads `head..head + Q`, which share keys and values. Returns Q.
///
/// # Safety
/// Shapes as checked in [`attend`].
#[inline(always)]
unsafe fn some_heads<S: Simd, const Q: usize>(
    task: &Task<'_>,
    token: usize,
    head: usize,
    scratch: &mut Scratch,
) -> usize {
    let KvLayer {
        head_dim, capacity, ..
    } = *task.kv;
    let seen = task.start + token + 1;
    let padded = seen.next_multiple_of(LANES);
    let kv_head = head / (task.heads / task.kv.kv_heads);
    let keys = &task.kv.keys[kv_head * capacity * head_dim..][..padded * head_dim];
    let key_scales = &task.kv.key_scales[kv_head * capacity..][..padded];
    let values = &task.kv.values[kv_head * capacity * head_dim..][..capacity * head_dim];
    let value_scales = &task.kv.value_scales[kv_head * capacity..][..padded];
    let first = (token * task.heads + head) * head_dim;
    let q = &task.q[first..][..Q * head_dim];

    let Scratch { scores, integers } = scratch;
    scores.resize((Q * padded).max(scores.len()), 0.0);
    let pairs = Q * padded.max(head_dim) / 2;
    integers.resize(pairs.max(integers.len()), [0; 2]);

    let mut q_scales = [0.0; Q];
    let mut row = [0; KvLayer::MAX_HEAD_DIM];
    for (j, (scale, q)) in q_scales
        .iter_mut()
        .zip(q.chunks_exact(head_dim))
        .enumerate()
    {
        *scale = quantize(q, KvLayer::QUERY_LIMIT, &mut row) * (LOG2_E / (head_dim as f32).sqrt());
        let to = integers[j..].iter_mut().step_by(Q);
        to.zip(row[..head_dim].as_chunks().0)
            .for_each(|(to, &pair)| *to = pair);
    }
    // SAFETY: `keys` holds padded / 8 blocks of head_dim / 2 pairs; `values` head_dim / 8 blocks of capacity / 2, of
    // which padded / 2 are read; `integers` as many for every query; stores are of eight floats below Q · padded.
    unsafe {
        let mut largest = [S::splat(f32::NEG_INFINITY); Q];
        for p in (0..padded).step_by(LANES) {
            let block = keys.as_ptr().add(p * head_dim);
            let dots = dot_pairs::<S, _, Q>(block, integers.as_ptr(), head_dim);
            let key_scale = S::load(key_scales.as_ptr().add(p));
            for j in 0..Q {
                let scale = S::mul(key_scale, S::splat(q_scales[j]));
                let mut score = S::mul(S::int_to_float(dots[j]), scale);
                let to = scores.as_mut_ptr().add(j * padded + p);
                S::store(to, score);
                if p + LANES > seen {
                    // Nothing lies beyond: these are no positions.
                    scores[j * padded + seen..(j + 1) * padded].fill(f32::NEG_INFINITY);
                    score = S::load(scores.as_ptr().add(j * padded + p));
                }
                largest[j] = S::max(score, largest[j]);
            }
        }
        let mut factors = [0.0; Q];
        for j in 0..Q {
            let scores = &mut scores[j * padded..][..padded];
            let largest = max_lane::<S>(largest[j]);
            factors[j] = weigh::<S, Q>(scores, largest, seen, value_scales, &mut integers[j..]);
        }
        let out = task.out.0.add(first);
        for c in (0..head_dim).step_by(LANES) {
            let block = values.as_ptr().add(c * capacity);
            let sums = dot_pairs::<S, _, Q>(block, integers.as_ptr(), padded);
            for j in 0..Q {
                let y = S::mul(S::int_to_float(sums[j]), S::splat(factors[j]));
                S::store(out.add(j * head_dim + c), y);
            }
        }
    }
    Q
}

/// Turns the scores of one query, of which `largest` is the largest, into integer weights of the values; returns what the
/// weighted sum is to be multiplied with.
///
/// # Safety
/// All slices have one length, a multiple of 8, less than 8 above `seen`.
#[inline(always)]
unsafe fn weigh<S: Simd, const Q: usize>(
    scores: &mut [f32],
    largest: f32,
    seen: usize,
    value_scales: &[f32],
    weights: &mut [[i16; 2]],
) -> f32 {
    // SAFETY: every access is to eight elements of a chunk of eight.
    unsafe {
        let constants = Exp2::constants();
        let largest = S::splat(largest);
        let mut total = S::splat(0.0);
        let mut heaviest = S::splat(0.0);
        let mut weight = S::splat(0.0);
        for (i, (s, scale)) in scores
            .chunks_exact_mut(LANES)
            .zip(value_scales.chunks_exact(LANES))
            .enumerate()
        {
            let mut e = exp2::<S>(S::sub(S::load(s.as_ptr()), largest), constants);
            if (i + 1) * LANES > seen {
                // exp2's range ends above zero: what is no position must not count.
                S::store(s.as_mut_ptr(), e);
                s[seen % LANES..].fill(0.0);
                e = S::load(s.as_ptr());
            }
            total = S::add(total, e);
            let w = S::mul(e, S::load(scale.as_ptr()));
            heaviest = S::max(w, heaviest);
            weight = S::add(weight, w);
            S::store(s.as_mut_ptr(), w);
        }
        let heaviest = max_lane::<S>(heaviest);
        // Values that are all zero, or too small for an inverse, count as zero.
        let multiplier = if heaviest < 1e-30 {
            0.0
        } else {
            (32_767.0 / heaviest).min(MAX_WEIGHT / sum::<S>(weight))
        };
        let by = S::splat(multiplier);
        let mut to = weights.as_mut_ptr();
        for s in scores.chunks_exact(LANES) {
            let w = S::mul(S::load(s.as_ptr()), by);
            S::store_pairs(to, Q, S::float_to_int(w));
            to = to.add(LANES / 2 * Q);
        }
        if multiplier > 0.0 {
            1.0 / (multiplier * sum::<S>(total))
        } else {
            0.0
        }
    }
}

/// What the cache holds: integers that are multiplied as i16.
trait Element {
    /// Reads eight pairs.
    ///
    /// # Safety
    /// As `S`; `p` is valid for 16 elements.
    unsafe fn load<S: Simd>(p: *const Self) -> S::Pairs;
}

impl Element for i16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const i16) -> S::Pairs {
        // SAFETY: passed on.
        unsafe { S::load_pairs(p) }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const i8) -> S::Pairs {
        // SAFETY: passed on.
        unsafe { S::load_signed(p) }
    }
}

/// Per query and lane: `Σ_i block[i / 2][lane][i % 2] · x[query][i]`.
///
/// # Safety
/// `block` holds `count / 2` times eight pairs, `x` Q times `count` i16; `count` is even.
#[inline(always)]
unsafe fn dot_pairs<S: Simd, T: Element, const Q: usize>(
    block: *const T,
    x: *const [i16; 2],
    count: usize,
) -> [S::Int; Q] {
    // SAFETY: as said.
    unsafe {
        let mut acc = [S::int_zero(); Q];
        let (mut block, mut x) = (block, x);
        // Not unrolled: WebAssembly engines have sixteen registers, and this takes eleven of them.
        for _ in 0..count / 2 {
            let lanes = T::load::<S>(block);
            for j in 0..Q {
                let products = S::widen_mul(lanes, S::splat_pair(x.add(j)));
                acc[j] = S::int_add(acc[j], products);
            }
            block = block.add(2 * LANES);
            x = x.add(Q);
        }
        acc
    }
}
