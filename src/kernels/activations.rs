//! Activations as int8, in groups of 32 columns with one float scale each, in the order in which the matrix
//! kernels' register tiles read them.

use super::backend::dispatch;
use super::layout::GROUP;
use super::simd::{Simd, max_lane};

/// Quads of four activations in one group.
pub(super) const GROUP_QUADS: usize = GROUP / 4;
/// The widest quad of any back end, in words of 32 bits.
const MAX_QUAD_WORDS: usize = 2;

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
        let most = GROUP_QUADS * MAX_QUAD_WORDS + 2;
        self.words.resize(self.tokens * (cols / GROUP) * most, 0);
        // SAFETY: the buffer was just sized for the widest quads.
        unsafe { quantize_all(x, self) }
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

dispatch! {
    fn quantize_all(x: &[f32], to: &mut Activations) = quantize_with;
}

/// # Safety
/// `to.words` has room for `to.tokens` rows of `to.cols` columns in records of the widest quads.
#[inline(always)]
unsafe fn quantize_with<S: Simd>(x: &[f32], to: &mut Activations) {
    let share = GROUP_QUADS * S::QUAD_BYTES / 4 + 2;
    to.share = share;
    let groups = to.cols / GROUP;
    let words = to.words.as_mut_ptr();
    for (first, size) in Activations::tiles(to.tokens) {
        let rows = x[first * to.cols..][..size * to.cols].chunks_exact(to.cols);
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
