//! Rows as a pack stores them: fewer bits than in memory, and how weights become such rows.

use super::packed::Group;
use crate::kernels::{CodeWidth, GROUP};

/// Bits of a stored code's range; it takes fewer once it is coded. In memory it takes half a byte or a byte
/// ([`CodeBits::width`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeBits {
    /// 0..=15.
    Four,
    /// 0..=63.
    Six,
}

impl CodeBits {
    /// Every width.
    pub const ALL: [Self; 2] = [Self::Four, Self::Six];

    /// The number.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Four => 4,
            Self::Six => 6,
        }
    }

    /// The largest code.
    pub const fn max_code(self) -> u8 {
        ((1u16 << self.bits()) - 1) as u8
    }

    /// How the kernels hold these codes.
    pub const fn width(self) -> CodeWidth {
        match self {
            Self::Four => CodeWidth::Nibble,
            Self::Six => CodeWidth::Six,
        }
    }

    /// Half the range of a group with this scale, in units of the row's scale. Weights lie evenly on both sides of
    /// zero, so a minimum is stored by how far it is from minus this.
    const fn half_range(self, scale: u8) -> i32 {
        self.max_code() as i32 * scale as i32 / 2
    }

    /// A group's offset, in units of the row's scale; `None` where it is no i16, as in no row made here.
    pub(super) fn offset(self, scale: u8, minimum: i8, minimum_step: u16) -> Option<i16> {
        let offset = i32::from(minimum) * i32::from(minimum_step) - self.half_range(scale);
        offset.try_into().ok()
    }
}

/// 32 weights of a [`StoredRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredGroup {
    /// At most [`CodeBits::max_code`].
    pub codes: [u8; GROUP],
    /// In units of the row's scale.
    pub scale: u8,
    /// In units of the row's minimum step, from the middle of a symmetric group.
    pub minimum: i8,
}

/// A row: `w = scale · (group.scale · code + offset)`, where
/// `offset = group.minimum · minimum_step − ⌊group.scale · max_code / 2⌋`.
///
/// A minimum thus costs eight bits and is still a whole number of the row's units, as the kernels want it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRow {
    /// The unit of everything in the row; a bf16, so that it takes two bytes.
    pub scale: f32,
    /// The unit of the minima, in units of `scale`.
    pub minimum_step: u16,
    /// `cols / 32` of them.
    pub groups: Vec<StoredGroup>,
}

/// Offsets stay below this before rounding, so that they are within i16 after it: rounding a step moves an offset by
/// at most 128, rounding a minimum by at most 258.
const LARGEST_OFFSET: f32 = 32_000.0;
/// Scales of six bits cost 0.4% of perplexity on Q4_1 weights of 135 million parameters and save 0.8 MB of 66 over
/// seven bits and minima of twice the resolution.
const LARGEST_SCALE: f32 = 63.0;
const LARGEST_MINIMUM: f32 = 127.0;

impl StoredGroup {
    /// The group as the kernels have it; `None` where the offset is no i16, which no row made here has.
    pub fn group(&self, bits: CodeBits, minimum_step: u16) -> Option<Group> {
        Some(Group {
            codes: self.codes,
            scale: self.scale,
            offset: bits.offset(self.scale, self.minimum, minimum_step)?,
        })
    }
}

impl StoredRow {
    /// A row whose groups already are `step · code + minimum` with 4-bit codes (Q4_0, Q4_1). The codes stay as they
    /// are, so nothing is quantized twice; only steps and minima are rounded, to 1/63 of the row's largest.
    ///
    /// Each item of `blocks` is (step, minimum, codes); a negative step is turned round.
    pub fn from_affine(blocks: &[(f32, f32, [u8; GROUP])]) -> Self {
        let blocks: Vec<_> = blocks
            .iter()
            .map(|&(step, minimum, codes)| {
                if step < 0.0 {
                    (-step, minimum + 15.0 * step, codes.map(|q| 15 - q))
                } else {
                    (step, minimum, codes)
                }
            })
            .collect();
        let targets = |scale: f32| -> Vec<(u8, f32)> {
            let target = |&(step, minimum, codes): &(f32, f32, [u8; GROUP])| {
                let rounded = (step / scale).round_ties_even();
                // What rounding the step takes from the group's mean, the offset gives back.
                let mean = codes.iter().map(|&q| f32::from(q)).sum::<f32>() / GROUP as f32;
                let offset = (minimum + (step - rounded * scale) * mean) / scale;
                (rounded as u8, offset)
            };
            blocks.iter().map(target).collect()
        };
        let ranges = blocks.iter().map(|&(step, minimum, _)| (step, minimum));
        Self::assemble(CodeBits::Four, ranges, targets, |group, _| blocks[group].2)
    }

    /// A row of floats, each group of 32 fitted by least squares over a few ranges.
    pub fn from_floats(row: &[f32], bits: CodeBits) -> Self {
        let fits: Vec<(f32, f32)> = row.chunks_exact(GROUP).map(|w| fit(w, bits)).collect();
        let targets = |scale: f32| -> Vec<(u8, f32)> {
            let target = |(w, &(step, minimum)): (&[f32], &(f32, f32))| {
                let rounded = (step / scale).round_ties_even();
                if rounded == 0.0 {
                    let mean = w.iter().sum::<f32>() / GROUP as f32;
                    return (0, mean / scale);
                }
                // The middle of the range stays where it was.
                let half = f32::from(bits.max_code()) / 2.0;
                let offset = minimum / scale + (step / scale - rounded) * half;
                (rounded as u8, offset)
            };
            row.chunks_exact(GROUP).zip(&fits).map(target).collect()
        };
        let codes = |group: usize, found: &Found| {
            let w = &row[group * GROUP..][..GROUP];
            std::array::from_fn(|c| {
                if found.group_scale == 0 {
                    return 0;
                }
                let code = (w[c] / found.scale - found.offset) / f32::from(found.group_scale);
                code.round_ties_even()
                    .clamp(0.0, f32::from(bits.max_code())) as u8
            })
        };
        Self::assemble(bits, fits.iter().copied(), targets, codes)
    }

    /// Finds the row's units for groups of these (step, minimum), rounds the (scale, offset) that `targets` gives in
    /// the row's unit, and asks for the codes that suit what came out.
    fn assemble(
        bits: CodeBits,
        ranges: impl Iterator<Item = (f32, f32)> + Clone,
        targets: impl Fn(f32) -> Vec<(u8, f32)>,
        codes: impl Fn(usize, &Found) -> [u8; GROUP],
    ) -> Self {
        let scale = ranges.clone().fold(0.0, |scale: f32, (step, minimum)| {
            scale
                .max(step / LARGEST_SCALE)
                .max(minimum.abs() / LARGEST_OFFSET)
        });
        let scale = bf16_above(scale);
        // Below this, dividing by the scale overflows: such a row is zero for every purpose.
        if scale < f32::MIN_POSITIVE {
            let groups = ranges.map(|_| StoredGroup {
                codes: [0; GROUP],
                scale: 0,
                minimum: 0,
            });
            return Self {
                scale: 0.0,
                minimum_step: 0,
                groups: groups.collect(),
            };
        }
        let targets = targets(scale);
        let from_middle = |&(group_scale, offset): &(u8, f32)| {
            offset.clamp(-LARGEST_OFFSET, LARGEST_OFFSET) + bits.half_range(group_scale) as f32
        };
        let farthest = targets
            .iter()
            .map(from_middle)
            .fold(0.0, |far: f32, x| far.max(x.abs()));
        let minimum_step = (farthest / LARGEST_MINIMUM).ceil().max(1.0);
        let groups = targets.iter().enumerate().map(|(index, target)| {
            let minimum = (from_middle(target) / minimum_step).round_ties_even();
            let offset = minimum * minimum_step - bits.half_range(target.0) as f32;
            StoredGroup {
                codes: codes(
                    index,
                    &Found {
                        scale,
                        group_scale: target.0,
                        offset,
                    },
                ),
                scale: target.0,
                minimum: minimum as i8,
            }
        });
        Self {
            scale,
            minimum_step: minimum_step as u16,
            groups: groups.collect(),
        }
    }

    /// The float values; `out` (cols).
    pub fn dequantize(&self, bits: CodeBits, out: &mut [f32]) {
        for (group, out) in self.groups.iter().zip(out.chunks_exact_mut(GROUP)) {
            let offset = i32::from(group.minimum) * i32::from(self.minimum_step)
                - bits.half_range(group.scale);
            for (w, code) in out.iter_mut().zip(group.codes) {
                *w = self.scale * (i32::from(group.scale) * i32::from(code) + offset) as f32;
            }
        }
    }
}

/// The least bf16 that is not below `x`, which is not negative.
pub(super) fn bf16_above(x: f32) -> f32 {
    f32::from_bits((x.to_bits() + 0xffff) & !0xffff)
}

/// A group's numbers after rounding.
struct Found {
    scale: f32,
    group_scale: u8,
    offset: f32,
}

/// Eighths of a code by which a group's range is tried narrower (more) and wider (less) than it is.
const RANGES: std::ops::RangeInclusive<i32> = -4..=8;

/// The (step, minimum) whose codes come nearest to the 32 weights in the mean square, among those that least squares
/// gives for the codes of a few ranges (the search of llama.cpp's `make_qkx2_quants`, ggml-quants.c, unweighted).
fn fit(w: &[f32], bits: CodeBits) -> (f32, f32) {
    let levels = f32::from(bits.max_code());
    let least = w.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = w.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = largest - least;
    if range < f32::MIN_POSITIVE {
        return (0.0, least);
    }
    let mean_w = w.iter().sum::<f32>() / GROUP as f32;
    let mut best = (range / levels, least);
    let mut best_error = f32::INFINITY;
    for eighths in RANGES {
        let per_code = (levels + eighths as f32 / 8.0) / range;
        let mut codes = [0.0; GROUP];
        for (q, &x) in codes.iter_mut().zip(w) {
            *q = f32::from(((x - least) * per_code + 0.5) as u8).min(levels);
        }
        let mean_q = codes.iter().sum::<f32>() / GROUP as f32;
        let (mut qq, mut qw) = (0.0, 0.0);
        for (q, x) in codes.iter().zip(w) {
            qq += (q - mean_q) * (q - mean_q);
            qw += (q - mean_q) * (x - mean_w);
        }
        let step = qw / qq;
        if !(step.is_finite() && step > 0.0) {
            continue;
        }
        let minimum = mean_w - step * mean_q;
        let mut error = 0.0;
        for (q, x) in codes.iter().zip(w) {
            let off = step * q + minimum - x;
            error += off * off;
        }
        if error < best_error {
            best_error = error;
            best = (step, minimum);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(n: usize) -> Vec<f32> {
        let mut x = 1u32;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        // Three uniform numbers: something like the bell of real weights.
        (0..n).map(|_| next() + next() + next()).collect()
    }

    fn values(row: &StoredRow, bits: CodeBits) -> Vec<f32> {
        let mut out = vec![0.0; row.groups.len() * GROUP];
        row.dequantize(bits, &mut out);
        out
    }

    fn squared_error(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
    }

    #[test]
    fn stored_and_packed_groups_are_the_same_numbers() {
        for bits in CodeBits::ALL {
            let row = StoredRow::from_floats(&weights(96), bits);
            let read = values(&row, bits);
            for (g, stored) in row.groups.iter().enumerate() {
                let group = stored.group(bits, row.minimum_step).unwrap();
                for c in 0..GROUP {
                    let exact = i32::from(group.scale) * i32::from(group.codes[c])
                        + i32::from(group.offset);
                    assert_eq!(read[g * GROUP + c], row.scale * exact as f32);
                    assert!(group.codes[c] <= bits.max_code());
                }
            }
        }
    }

    #[test]
    fn the_fit_beats_spreading_codes_over_the_range() {
        let row = weights(320);
        for bits in CodeBits::ALL {
            let levels = f32::from(bits.max_code());
            let plain: Vec<f32> = row
                .chunks_exact(GROUP)
                .flat_map(|w| {
                    let least = w.iter().copied().fold(f32::INFINITY, f32::min);
                    let largest = w.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let step = (largest - least) / levels;
                    w.iter()
                        .map(move |x| ((x - least) / step).round() * step + least)
                })
                .collect();
            let fitted = values(&StoredRow::from_floats(&row, bits), bits);
            let (plain, fitted) = (squared_error(&plain, &row), squared_error(&fitted, &row));
            assert!(fitted < plain, "{bits:?}: {fitted} is not below {plain}");
        }
    }

    #[test]
    fn affine_rows_keep_their_codes() {
        let codes = |k: usize| std::array::from_fn(|c| ((c * 5 + k) % 16) as u8);
        let blocks = [
            (0.02, -0.15, codes(0)),
            (-0.013, 0.11, codes(3)),
            (0.0, 0.25, codes(1)),
            (0.01, 0.1, codes(7)),
        ];
        let row = StoredRow::from_affine(&blocks);
        assert_eq!(row.groups[0].codes, codes(0));
        assert_eq!(row.groups[1].codes, codes(3).map(|q: u8| 15 - q));
        assert_eq!(row.groups[3].codes, codes(7));
        let read = values(&row, CodeBits::Four);
        // Half a unit of a step times 15 codes, and half a unit of the minima.
        let most = row.scale * (7.5 + f32::from(row.minimum_step) / 2.0 + 1.0);
        for (g, (step, minimum, codes)) in blocks.into_iter().enumerate() {
            for (c, q) in codes.into_iter().enumerate() {
                let error = (read[g * GROUP + c] - (step * f32::from(q) + minimum)).abs();
                assert!(error <= most, "{g} {c}: {error} is above {most}");
            }
        }
    }

    #[test]
    fn rows_without_numbers_to_speak_of_stay_finite() {
        let spike = |x: f32| {
            (0..64)
                .map(|i| if i == 40 { x } else { 0.0 })
                .collect::<Vec<_>>()
        };
        for row in [
            vec![0.0; 64],
            vec![1e-42; 64],
            vec![-3.5; 64],
            spike(1e30),
            spike(-2.0),
        ] {
            for bits in CodeBits::ALL {
                let stored = StoredRow::from_floats(&row, bits);
                for group in &stored.groups {
                    assert!(group.group(bits, stored.minimum_step).is_some());
                }
                let largest = row.iter().fold(0.0, |a: f32, x| a.max(x.abs()));
                for (got, want) in values(&stored, bits).iter().zip(&row) {
                    assert!(
                        (got - want).abs() <= 0.01 * largest + 1e-37,
                        "{got} for {want}"
                    );
                }
            }
        }
    }
}
