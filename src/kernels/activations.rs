//! Activations as int8, in groups of 32 columns with one float scale each, in the order in which the matrix
//! kernels' register tiles read them.

use super::backend::dispatch;
use super::layout::GROUP;
use super::pool;
use super::simd::{Simd, max_lane};
use std::ops::Range;

/// Quads of four activations in one group.
pub(super) const GROUP_QUADS: usize = GROUP / 4;

/// Tokens that a register tile multiplies at once: eight 128-bit accumulators, four quads and a vector of weights.
/// Six tokens would just fit in sixteen registers, but compilers for wasm then spill accumulators.
pub(super) const MAX_TILE: usize = 4;

/// Quantized activations (tokens, cols): `x ≈ scale · q`, q in -127..=127, scale = max |x| / 127 a group.
/// The buffer is reused from call to call.
///
/// Tokens are cut into tiles of four, then two, then one. What a tile of T tokens needs of a group lies together:
///
/// ```text
/// quad 0 of each of the T tokens, …, quad 7 of each; T scales (f32); T sums (i16 in 32 bits)
/// ```
#[derive(Debug, Default)]
pub struct Activations {
    /// (tile, group, record)
    words: Vec<u32>,
    pub(super) tokens: usize,
    pub(super) cols: usize,
    /// Words a token's share of a record takes.
    share: usize,
}

impl Activations {
    /// Quantizes `x` (tokens, cols), replacing what was held.
    ///
    /// # Panics
    /// Where `cols` does not divide the length of `x` or is no multiple of 32.
    pub fn quantize(&mut self, x: &[f32], cols: usize) {
        assert!(cols > 0 && cols.is_multiple_of(GROUP) && x.len().is_multiple_of(cols));
        self.tokens = x.len() / cols;
        self.cols = cols;
        // SAFETY: the function writes a number, and nothing else.
        unsafe { find_share(&mut self.share) };
        let words = self.tokens * (cols / GROUP) * self.share;
        // Never shorter: what is cut off would have to be zeroed again.
        self.words.resize(words.max(self.words.len()), 0);
        let task = Task {
            x,
            cols,
            share: self.share,
            words: self.words.as_mut_ptr(),
        };
        let tokens = self.tokens;
        pool::for_ranges(tokens.div_ceil(MAX_TILE), 1, |tiles| {
            let tokens = tiles.start * MAX_TILE..(tiles.end * MAX_TILE).min(tokens);
            // SAFETY: the buffer has room for all tokens; no two ranges have a tile in common.
            unsafe { quantize_tokens(&task, tokens) }
        });
    }

    /// The tiles as (first token, tokens): fours first, then at most one each of two and one.
    pub(super) fn tiles(tokens: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut first = 0;
        std::iter::from_fn(move || {
            let size = tile_size(tokens - first)?;
            first += size;
            Some((first - size, size))
        })
    }

    /// Makes sure that the back end's records are as wide as these.
    ///
    /// # Panics
    /// Where they are not: another one quantized.
    #[inline(always)]
    pub(super) fn check<S: Simd>(&self) {
        check_share::<S>(self.share);
    }

    /// The records of the tile that starts with token `first`.
    #[inline(always)]
    pub(super) fn tile(&self, first: usize) -> *const u8 {
        let words = first * (self.cols / GROUP) * self.share;
        self.words[words..].as_ptr().cast()
    }
}

/// The size of the next tile where `left` tokens are left.
#[inline(always)]
fn tile_size(left: usize) -> Option<usize> {
    [MAX_TILE, 2, 1].into_iter().find(|&size| size <= left)
}

/// Words a token takes in a record of this back end: its quads, a scale and a sum.
#[inline(always)]
fn share<S: Simd>() -> usize {
    GROUP_QUADS * S::QUAD_BYTES / 4 + 2
}

/// Records of another width would reach beyond the buffer.
#[inline(always)]
fn check_share<S: Simd>(found: usize) {
    assert_eq!(found, share::<S>(), "the back end was changed meanwhile");
}

/// What the threads need that quantize some tokens each.
struct Task<'a> {
    x: &'a [f32],
    cols: usize,
    share: usize,
    words: *mut u32,
}
// SAFETY: `quantize` gives every thread tiles of its own, and returns after all are done.
unsafe impl Sync for Task<'_> {}

dispatch! {
    fn find_share(to: &mut usize) = find_share_with;
    fn quantize_tokens(task: &Task<'_>, tokens: Range<usize>) = quantize_tokens_with;
}

/// # Safety
/// Nothing can go wrong; `dispatch` asks for an unsafe function.
#[inline(always)]
unsafe fn find_share_with<S: Simd>(to: &mut usize) {
    *to = share::<S>();
}

/// # Safety
/// `task.words` has room for all tokens in records of `task.share`; `tokens` start where a tile does, and end so.
#[inline(always)]
unsafe fn quantize_tokens_with<S: Simd>(task: &Task<'_>, tokens: Range<usize>) {
    let Task {
        x,
        cols,
        share,
        words,
    } = *task;
    check_share::<S>(share);
    let groups = cols / GROUP;
    for (first, size) in Activations::tiles(tokens.len()) {
        let first = tokens.start + first;
        let rows = x[first * cols..][..size * cols].chunks_exact(cols);
        for (lane, row) in rows.enumerate() {
            for (group, values) in row.chunks_exact(GROUP).enumerate() {
                // SAFETY: the record lies in the tile that starts at `first`; `values` holds 32 floats.
                unsafe {
                    let record = words.add((first * groups + group * size) * share);
                    let quads = record.cast::<u8>().add(lane * S::QUAD_BYTES);
                    let (scale, sum) =
                        quantize_group::<S>(values.as_ptr(), quads, size * S::QUAD_BYTES);
                    let scales = record.add(size * (share - 2) + lane);
                    scales.write(scale.to_bits());
                    // A row's second lane holds its offset a second time: the factor there is zero.
                    scales.add(size).write(u32::from(sum as u16));
                }
            }
        }
    }
}

/// Quantizes the 32 floats at `x` into quads `stride` bytes apart, and returns their scale and their sum.
///
/// # Safety
/// Both pointers are good for that.
#[inline(always)]
unsafe fn quantize_group<S: Simd>(x: *const f32, quads: *mut u8, stride: usize) -> (f32, i16) {
    // SAFETY: as said.
    unsafe {
        let x = [0, 8, 16, 24].map(|i| S::load(x.add(i)));
        let low = S::max(S::abs(x[0]), S::abs(x[1]));
        let high = S::max(S::abs(x[2]), S::abs(x[3]));
        let largest = max_lane::<S>(S::max(low, high));
        // A group of zeros, or of numbers too small for their inverse, counts as zero.
        let (scale, inverse) = if largest < 1e-30 {
            (0.0, 0.0)
        } else {
            (largest / 127.0, 127.0 / largest)
        };
        let inverse = S::splat(inverse);
        let q = x.map(|x| S::float_to_int(S::mul(x, inverse)));
        S::store_quads(quads, stride, q);
        let sum = S::int_add(S::int_add(q[0], q[1]), S::int_add(q[2], q[3]));
        (scale, S::int_sum(sum) as i16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_tokens_once() {
        for tokens in 0..40 {
            let mut next = 0;
            for (first, size) in Activations::tiles(tokens) {
                assert_eq!(first, next);
                assert!((1..=MAX_TILE).contains(&size));
                next += size;
            }
            assert_eq!(next, tokens);
        }
    }
}
