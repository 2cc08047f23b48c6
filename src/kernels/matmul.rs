//! Packed weights times int8 activations: matrix-vector for decode, register tiles for prefill.
//!
//! For one row r and one token t, with groups g of 32 columns in rising order:
//!
//! ```text
//! i[g]    = scale[r][g] · Σ_c code[r][c] · q[t][c]  +  offset[r][g] · Σ_c q[t][c]
//! y[t][r] = row_scale[r] · (((0 + f32(i[0]) · s[t][0]) + f32(i[1]) · s[t][1]) + …)
//! ```
//!
//! `i[g]` is an exact i32 (at most 32 · 127 · (255 · 255 + 32,767) < 2^29), so every tile shape gives the same bits.

use super::activations::{Activations, GROUP_QUADS};
use super::backend::dispatch;
use super::layout::{CodeWidth, GROUP, PANEL, PackedView, panels};
use super::pool;
use super::simd::Simd;
use std::cell::RefCell;
use std::ops::Range;

/// Tokens a register tile: four accumulators of two 128-bit registers, the weights and a quad fit into sixteen.
const TILE: usize = 4;

/// `dst[t][r] = Σ_c w[r][c] · a[t][c]`, dst (tokens, rows).
///
/// # Panics
/// Where the shapes do not fit together.
pub fn packed_matmul(w: &PackedView<'_>, a: &Activations, dst: &mut [f32]) {
    w.check();
    assert_eq!(w.cols, a.cols, "columns");
    assert_eq!(dst.len(), a.tokens * w.rows, "output");
    let out = Output(dst.as_mut_ptr());
    pool::for_ranges(panels(w.rows), 4, |range| {
        // SAFETY: the lengths were checked above; ranges do not overlap, so no two threads write the same row.
        unsafe { multiply(w, a, out, range) }
    });
}

/// Where the rows go; threads write disjoint ones.
#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: `packed_matmul` gives every thread rows of its own, and returns after all are done.
unsafe impl Sync for Output {}
// SAFETY: as above.
unsafe impl Send for Output {}

dispatch! {
    fn multiply(w: &PackedView<'_>, a: &Activations, dst: Output, range: Range<usize>) = multiply_with;
}

thread_local! {
    /// One panel's nibbles as bytes, for prefill: unpacked once, used for every token.
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// # Safety
/// `w.check()` passed, the columns agree, `dst` holds (tokens, rows), `range` lies within the panels.
#[inline(always)]
unsafe fn multiply_with<S: Simd>(
    w: &PackedView<'_>,
    a: &Activations,
    dst: Output,
    range: Range<usize>,
) {
    // SAFETY: passed on.
    unsafe {
        match w.width {
            CodeWidth::Byte => {
                for panel in range {
                    let p = Panel::new(w, panel);
                    all_tokens::<S, false, true>(p, a, dst, w.rows);
                }
            }
            CodeWidth::Nibble if a.tokens < TILE => {
                for panel in range {
                    let p = Panel::new(w, panel);
                    all_tokens::<S, true, false>(p, a, dst, w.rows);
                }
            }
            CodeWidth::Nibble => {
                // Taken and put back: a closure of `with` would not be compiled for the back end's instructions.
                let mut bytes = UNPACKED.take();
                bytes.resize(w.cols / GROUP * CodeWidth::Byte.group_bytes(), 0);
                for panel in range {
                    let mut p = Panel::new(w, panel);
                    unpack::<S>(p.codes, &mut bytes);
                    p.codes = bytes.as_ptr();
                    all_tokens::<S, false, false>(p, a, dst, w.rows);
                }
                UNPACKED.set(bytes);
            }
        }
    }
}

/// One panel's parts.
#[derive(Clone, Copy)]
struct Panel {
    index: usize,
    groups: usize,
    codes: *const u8,
    scales: *const u8,
    offsets: *const i16,
    row_scales: *const f32,
}

impl Panel {
    /// # Safety
    /// `w.check()` passed and `index` is one of its panels.
    #[inline(always)]
    unsafe fn new(w: &PackedView<'_>, index: usize) -> Self {
        let groups = w.cols / GROUP;
        let cell = index * groups;
        // SAFETY: `check` saw `panels · groups` cells in each slice.
        unsafe {
            Self {
                index,
                groups,
                codes: w.codes.as_ptr().add(cell * w.width.group_bytes()),
                scales: w.scales.as_ptr().add(cell * PANEL),
                offsets: w.offsets.as_ptr().add(cell * PANEL),
                row_scales: w.row_scales.as_ptr().add(index * PANEL),
            }
        }
    }
}

/// Spreads a panel's nibbles to bytes, 32 bytes to 64.
///
/// # Safety
/// `codes` is a nibble panel of as many groups as `bytes` has room for.
#[inline(always)]
unsafe fn unpack<S: Simd>(codes: *const u8, bytes: &mut [u8]) {
    for (i, pair) in bytes.chunks_exact_mut(64).enumerate() {
        // SAFETY: the panel holds half as many bytes as `bytes`.
        unsafe {
            let v = S::load_bytes(codes.add(32 * i));
            S::store_bytes(pair.as_mut_ptr(), S::low_nibbles(v));
            S::store_bytes(pair.as_mut_ptr().add(32), S::high_nibbles(v));
        }
    }
}

/// # Safety
/// As [`multiply_with`].
#[inline(always)]
unsafe fn all_tokens<S: Simd, const NIBBLES: bool, const WIDE: bool>(
    p: Panel,
    a: &Activations,
    dst: Output,
    rows: usize,
) {
    let mut token = 0;
    // SAFETY: tokens stay below a.tokens.
    unsafe {
        while token + TILE <= a.tokens {
            tile::<S, TILE, NIBBLES, WIDE>(p, a, token, dst, rows);
            token += TILE;
        }
        while token < a.tokens {
            tile::<S, 1, NIBBLES, WIDE>(p, a, token, dst, rows);
            token += 1;
        }
    }
}

/// Eight rows times `T` tokens. `NIBBLES`: codes are still packed; `WIDE`: codes may exceed 15.
///
/// # Safety
/// As [`multiply_with`], with tokens `first..first + T` below `a.tokens`.
#[inline(always)]
unsafe fn tile<S: Simd, const T: usize, const NIBBLES: bool, const WIDE: bool>(
    p: Panel,
    a: &Activations,
    first: usize,
    dst: Output,
    rows: usize,
) {
    // SAFETY: every pointer stays within what `check` and `Activations::quantize` sized.
    unsafe {
        let quads = a.quads.as_ptr().add(first * a.token_bytes);
        let mut total = [S::splat(0.0); T];
        for group in 0..p.groups {
            let cell = |t: usize| (first + t) * p.groups + group;
            let quad = |t: usize, i: usize| {
                quads.add(t * a.token_bytes + (group * GROUP_QUADS + i) * S::QUAD_BYTES)
            };
            let mut exact = [S::int_zero(); T];
            let scales = p.scales.add(group * PANEL);
            if WIDE {
                for i in 0..8 {
                    let w = S::load_bytes(p.codes.add((group * 8 + i) * 32));
                    for t in 0..T {
                        exact[t] = S::dot8(exact[t], w, S::load_quad(quad(t, i)));
                    }
                }
                let scales = S::load_scales_int(scales);
                for t in 0..T {
                    exact[t] = S::int_mul(exact[t], scales);
                }
            } else {
                let mut acc = [S::half_zero(); T];
                for i in 0..4 {
                    let (even, odd) = if NIBBLES {
                        let w = S::load_bytes(p.codes.add((group * 4 + i) * 32));
                        (S::low_nibbles(w), S::high_nibbles(w))
                    } else {
                        let w = p.codes.add((group * 8 + 2 * i) * 32);
                        (S::load_bytes(w), S::load_bytes(w.add(32)))
                    };
                    for t in 0..T {
                        acc[t] = S::dot4(acc[t], even, S::load_quad(quad(t, 2 * i)));
                        acc[t] = S::dot4(acc[t], odd, S::load_quad(quad(t, 2 * i + 1)));
                    }
                }
                let scales = S::load_scales_half(scales);
                for t in 0..T {
                    exact[t] = S::widen_mul(acc[t], scales);
                }
            }
            let offsets = S::load_offsets(p.offsets.add(group * PANEL));
            for t in 0..T {
                let sum = S::splat_sum(*a.sums.as_ptr().add(cell(t)));
                let whole = S::int_add(exact[t], S::widen_mul(offsets, sum));
                let scale = S::splat(*a.scales.as_ptr().add(cell(t)));
                total[t] = S::add(total[t], S::mul(S::int_to_float(whole), scale));
            }
        }
        let row_scales = S::load(p.row_scales);
        let row = p.index * PANEL;
        for (t, &total) in total.iter().enumerate() {
            let y = S::mul(total, row_scales);
            let to = dst.0.add((first + t) * rows + row);
            if row + PANEL <= rows {
                S::store(to, y);
            } else {
                let mut last = [0f32; PANEL];
                S::store(last.as_mut_ptr(), y);
                to.copy_from_nonoverlapping(last.as_ptr(), rows - row);
            }
        }
    }
}
