//! Float weights times float activations, for checkpoints that are not quantized.

use super::backend::dispatch;
use super::pool;
use super::simd::{Simd, sum};
use std::ops::Range;

/// `dst[t][r] = Σ_c w[r][c] · x[t][c]`; w (rows, cols), x (tokens, cols), dst (tokens, rows).
/// Eight partial sums, column c in sum c mod 8.
///
/// # Panics
/// Where the shapes do not fit together or `cols` is no multiple of 8.
pub fn dense_matmul(w: &[f32], x: &[f32], cols: usize, dst: &mut [f32]) {
    assert!(cols > 0 && cols.is_multiple_of(8), "columns");
    assert!(
        w.len().is_multiple_of(cols) && x.len().is_multiple_of(cols),
        "input"
    );
    let rows = w.len() / cols;
    assert_eq!(dst.len(), x.len() / cols * rows, "output");
    let out = Output(dst.as_mut_ptr());
    pool::for_ranges(rows, 16, |range| {
        // SAFETY: the lengths were checked above, and no two ranges share a row.
        unsafe { multiply(w, x, cols, out, range) }
    });
}

/// Where the rows go; threads write disjoint ones.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: `dense_matmul` gives every thread rows of its own, and returns after all are done.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

dispatch! {
    fn multiply(w: &[f32], x: &[f32], cols: usize, dst: Output, range: Range<usize>) = multiply_with;
}

/// # Safety
/// `dst` holds (tokens, rows), and `range` lies within the rows.
#[inline(always)]
unsafe fn multiply_with<S: Simd>(
    w: &[f32],
    x: &[f32],
    cols: usize,
    dst: Output,
    range: Range<usize>,
) {
    let rows = w.len() / cols;
    for row in range {
        let weights = &w[row * cols..(row + 1) * cols];
        for (token, x) in x.chunks_exact(cols).enumerate() {
            // SAFETY: both slices hold `cols` floats; `dst` holds (tokens, rows).
            unsafe { *dst.0.add(token * rows + row) = dot::<S>(weights, x) };
        }
    }
}

/// The dot product of two slices of one length, a multiple of 8.
///
/// # Safety
/// The lengths are as said.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: every load reads eight floats of a chunk of eight.
    unsafe {
        let mut acc = S::splat(0.0);
        for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            acc = S::add(acc, S::mul(S::load(a.as_ptr()), S::load(b.as_ptr())));
        }
        sum::<S>(acc)
    }
}
