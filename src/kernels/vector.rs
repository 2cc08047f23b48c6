//! Operations on single vectors: normalization, activation function, rotation, argmax.

use super::backend::dispatch;
use super::pool;
use super::simd::{Exp, Simd, exp, sum};

/// Rows that are worth another thread's while.
const GRAIN: usize = 2;

/// RMSNorm (Zhang and Sennrich 2019): `y = x / sqrt(mean(x²) + eps) · w`, row by row; x and y (tokens, w.len()).
///
/// # Panics
/// Where the lengths do not fit, or the width is no multiple of 8.
pub fn rms_norm(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    assert!(!w.is_empty() && w.len().is_multiple_of(8) && x.len().is_multiple_of(w.len()));
    assert_eq!(x.len(), y.len());
    pool::for_rows(y, w.len(), GRAIN, |rows, y| {
        let x = &x[rows.start * w.len()..rows.end * w.len()];
        // SAFETY: the lengths were checked.
        unsafe { rms_norm_rows(x, w, eps, y) }
    });
}

/// SwiGLU's middle (Shazeer 2020): `y = silu(gate) · up`, silu(x) = x / (1 + e^-x); x (tokens, gate then up), y
/// (tokens, width).
///
/// # Panics
/// Where the lengths do not fit, or the width is no multiple of 8.
pub fn silu_mul(x: &[f32], width: usize, y: &mut [f32]) {
    assert!(width > 0 && width.is_multiple_of(8) && y.len().is_multiple_of(width));
    assert_eq!(x.len(), 2 * y.len());
    pool::for_rows(y, width, GRAIN, |rows, y| {
        let x = &x[rows.start * 2 * width..rows.end * 2 * width];
        // SAFETY: the lengths were checked.
        unsafe { silu_mul_rows(x, width, y) }
    });
}

dispatch! {
    fn rms_norm_rows(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) = rms_norm_with;
    fn silu_mul_rows(x: &[f32], width: usize, y: &mut [f32]) = silu_mul_with;
}

/// # Safety
/// Lengths as checked in [`rms_norm`].
#[inline(always)]
unsafe fn rms_norm_with<S: Simd>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
        // SAFETY: every access is to eight floats of a chunk of eight.
        unsafe {
            let mut squares = S::splat(0.0);
            for x in x.chunks_exact(8) {
                let x = S::load(x.as_ptr());
                squares = S::add(squares, S::mul(x, x));
            }
            let mean = sum::<S>(squares) / w.len() as f32;
            let scale = S::splat(1.0 / (mean + eps).sqrt());
            for ((x, w), y) in x
                .chunks_exact(8)
                .zip(w.chunks_exact(8))
                .zip(y.chunks_exact_mut(8))
            {
                let x = S::mul(S::load(x.as_ptr()), scale);
                S::store(y.as_mut_ptr(), S::mul(x, S::load(w.as_ptr())));
            }
        }
    }
}

/// # Safety
/// Lengths as checked in [`silu_mul`].
#[inline(always)]
unsafe fn silu_mul_with<S: Simd>(x: &[f32], width: usize, y: &mut [f32]) {
    let constants = Exp::constants();
    for (x, y) in x.chunks_exact(2 * width).zip(y.chunks_exact_mut(width)) {
        let (gate, up) = x.split_at(width);
        for ((gate, up), y) in gate
            .chunks_exact(8)
            .zip(up.chunks_exact(8))
            .zip(y.chunks_exact_mut(8))
        {
            // SAFETY: every access is to eight floats of a chunk of eight.
            unsafe {
                let gate = S::load(gate.as_ptr());
                let decay = exp::<S>(S::sub(S::splat(0.0), gate), constants);
                let silu = S::div(gate, S::add(S::load_splat(&constants.one), decay));
                S::store(y.as_mut_ptr(), S::mul(silu, S::load(up.as_ptr())));
            }
        }
    }
}

/// Rotary position embedding (Su et al. 2021) in the half-rotation form of Hugging Face: of one head (head_dim), the
/// pair (i, i + head_dim/2) turns by the angle whose cosine and sine are given; `cos` and `sin` (head_dim/2).
pub fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// The index of the largest value, the lowest of equals; NaN never wins. `None` for an empty slice.
pub fn argmax(x: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, &v) in x.iter().enumerate() {
        if best.is_none_or(|b| v > x[b] || (x[b].is_nan() && !v.is_nan())) {
            best = Some(i);
        }
    }
    best
}
