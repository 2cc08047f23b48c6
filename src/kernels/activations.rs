//! Activations as int8, in groups of 32 columns with one float scale each.

use super::backend::dispatch;
use super::layout::GROUP;
use super::simd::{Simd, max_lane};

/// Quads of four activations in one group.
pub(super) const GROUP_QUADS: usize = GROUP / 4;
/// The widest quad of any back end, in bytes.
const MAX_QUAD_BYTES: usize = 8;

/// Quantized activations (tokens, cols): `x ≈ scale · q`, q in -127..=127, scale = max |x| / 127 a group.
/// The buffers are reused from call to call.
#[derive(Debug, Default)]
pub struct Activations {
    /// (token, group, quad): the back end's own form of four values.
    pub(super) quads: Vec<u8>,
    /// (token, group)
    pub(super) scales: Vec<f32>,
    /// (token, group): the sum of the group's values, for the weights' offsets.
    pub(super) sums: Vec<i16>,
    pub(super) tokens: usize,
    pub(super) cols: usize,
    /// Bytes from one token's quads to the next's.
    pub(super) token_bytes: usize,
}

impl Activations {
    /// Quantizes `x` (tokens, cols), replacing what was held.
    ///
    /// # Panics
    /// Where `cols` does not divide the length of `x` or is no multiple of 32.
    pub fn quantize(&mut self, x: &[f32], cols: usize) {
        assert!(cols > 0 && cols.is_multiple_of(GROUP) && x.len().is_multiple_of(cols));
        let groups = cols / GROUP;
        self.tokens = x.len() / cols;
        self.cols = cols;
        self.quads
            .resize(self.tokens * groups * GROUP_QUADS * MAX_QUAD_BYTES, 0);
        self.scales.resize(self.tokens * groups, 0.0);
        self.sums.resize(self.tokens * groups, 0);
        // SAFETY: the buffers were just sized for (tokens, groups), with the widest quads.
        unsafe { quantize_all(x, self) }
    }
}

dispatch! {
    fn quantize_all(x: &[f32], to: &mut Activations) = quantize_with;
}

/// # Safety
/// `to`'s buffers are sized for `to.tokens` rows of `to.cols` columns, with quads of `MAX_QUAD_BYTES`.
#[inline(always)]
unsafe fn quantize_with<S: Simd>(x: &[f32], to: &mut Activations) {
    let groups = to.cols / GROUP;
    to.token_bytes = groups * GROUP_QUADS * S::QUAD_BYTES;
    for (token, row) in x.chunks_exact(to.cols).enumerate() {
        for (group, values) in row.chunks_exact(GROUP).enumerate() {
            let cell = token * groups + group;
            let mut q = [0i8; GROUP];
            // SAFETY: `values` holds 32 floats.
            to.scales[cell] = unsafe { quantize_group::<S>(values, &mut q) };
            to.sums[cell] = q.iter().map(|&v| i16::from(v)).sum();
            for (i, quad) in q.as_chunks::<4>().0.iter().enumerate() {
                // SAFETY: quad `i` of this cell lies below tokens · groups · GROUP_QUADS · MAX_QUAD_BYTES.
                unsafe {
                    let at = token * to.token_bytes + (group * GROUP_QUADS + i) * S::QUAD_BYTES;
                    S::store_quad(to.quads.as_mut_ptr().add(at), *quad);
                }
            }
        }
    }
}

/// Quantizes a group of 32 and returns its scale.
#[inline(always)]
unsafe fn quantize_group<S: Simd>(x: &[f32], q: &mut [i8; GROUP]) -> f32 {
    // SAFETY: every load reads eight floats of a chunk of eight.
    unsafe {
        let mut largest = S::splat(0.0);
        for chunk in x.chunks_exact(8) {
            largest = S::max(S::abs(S::load(chunk.as_ptr())), largest);
        }
        let largest = max_lane::<S>(largest);
        // A group of zeros, or of numbers too small for their inverse, counts as zero.
        if largest < 1e-30 {
            return 0.0;
        }
        let inverse = S::splat(127.0 / largest);
        for (chunk, q) in x.chunks_exact(8).zip(q.chunks_exact_mut(8)) {
            let mut rounded = [0f32; 8];
            let scaled = S::nearest(S::mul(S::load(chunk.as_ptr()), inverse));
            S::store(rounded.as_mut_ptr(), scaled);
            for (q, r) in q.iter_mut().zip(rounded) {
                // `as` saturates; |r| is at most 127 but for a last-place excess that rounds away.
                *q = (r as i8).max(-127);
            }
        }
        largest / 127.0
    }
}
