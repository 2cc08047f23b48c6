//! Rows of other formats as packed rows.

use super::packed::Group;
use crate::kernels::{CodeWidth, GROUP};

/// A row whose groups already are `step · code + minimum` with 4-bit codes (Q4_0, Q4_1): the codes stay as they are,
/// only steps and minima are rounded, to 1/255 of the row's largest step. Returns the row's scale and its groups.
///
/// Each item of `blocks` is (step, minimum, codes); a negative step is turned round.
pub fn affine_row(blocks: &[(f32, f32, [u8; GROUP])]) -> (f32, Vec<Group>) {
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
    let scale = row_scale(blocks.iter().map(|&(step, minimum, _)| (step, minimum)));
    let groups = blocks
        .iter()
        .map(|&(step, minimum, codes)| {
            if scale == 0.0 {
                return Group {
                    codes,
                    scale: 0,
                    offset: 0,
                };
            }
            let rounded = (step / scale).round_ties_even();
            // What rounding the step takes from the group's mean, the offset gives back.
            let mean = codes.iter().map(|&q| u16::from(q)).sum::<u16>() as f32 / GROUP as f32;
            let offset = (minimum + (step - rounded * scale) * mean) / scale;
            Group {
                codes,
                scale: rounded as u8,
                offset: to_offset(offset),
            }
        })
        .collect();
    (scale, groups)
}

/// A row of floats, each group of 32 spread evenly between its least and its largest value. Returns the row's scale
/// and its groups.
pub fn float_row(row: &[f32], width: CodeWidth) -> (f32, Vec<Group>) {
    let levels = f32::from(width.max_code());
    let ranges: Vec<(f32, f32)> = row
        .chunks_exact(GROUP)
        .map(|w| {
            let (least, largest) = range(w);
            ((largest - least) / levels, least)
        })
        .collect();
    let scale = row_scale(ranges.iter().copied());
    let groups = row
        .chunks_exact(GROUP)
        .zip(ranges)
        .map(|(w, (step, least))| {
            if scale == 0.0 {
                return Group {
                    codes: [0; GROUP],
                    scale: 0,
                    offset: 0,
                };
            }
            // Rounded up, so that the largest value stays within the codes.
            let step = (step / scale).ceil().clamp(0.0, 255.0);
            let offset = to_offset((least / scale).floor());
            let mut codes = [0; GROUP];
            if step > 0.0 {
                for (to, x) in codes.iter_mut().zip(w) {
                    let code = ((x / scale - f32::from(offset)) / step).round_ties_even();
                    // By way of i32, which a vector can do for four at once.
                    *to = code.clamp(0.0, levels) as i32 as u8;
                }
            }
            Group {
                codes,
                scale: step as u8,
                offset,
            }
        })
        .collect();
    (scale, groups)
}

/// The least and the largest of 32 weights, none of which is NaN; in lanes, which a vector can compare at once.
fn range(w: &[f32]) -> (f32, f32) {
    let mut least = [f32::INFINITY; 8];
    let mut largest = [f32::NEG_INFINITY; 8];
    for eight in w.as_chunks::<8>().0 {
        for ((least, largest), &x) in least.iter_mut().zip(&mut largest).zip(eight) {
            *least = if x < *least { x } else { *least };
            *largest = if x > *largest { x } else { *largest };
        }
    }
    (
        least.into_iter().fold(f32::INFINITY, f32::min),
        largest.into_iter().fold(f32::NEG_INFINITY, f32::max),
    )
}

/// The unit in which a row's steps fit 0..=255 and its minima -32,767..=32,767.
fn row_scale(groups: impl Iterator<Item = (f32, f32)>) -> f32 {
    groups.fold(0.0, |scale: f32, (step, minimum)| {
        scale.max(step / 255.0).max(minimum.abs() / 32_767.0)
    })
}

fn to_offset(x: f32) -> i16 {
    x.round_ties_even().clamp(-32_767.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(scale: f32, g: &Group, c: usize) -> f32 {
        scale * (i32::from(g.scale) * i32::from(g.codes[c]) + i32::from(g.offset)) as f32
    }

    #[test]
    fn float_rows_stay_within_half_a_step() {
        let row: Vec<f32> = (0..96)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.013)
            .collect();
        let (scale, groups) = float_row(&row, CodeWidth::Byte);
        for (i, &w) in row.iter().enumerate() {
            let g = &groups[i / GROUP];
            let step = scale * f32::from(g.scale);
            let error = (value(scale, g, i % GROUP) - w).abs();
            assert!(error <= 0.51 * step + 1e-7, "{i}: {error} of {step}");
        }
    }

    #[test]
    fn affine_rows_keep_their_codes() {
        let codes = |k: usize| std::array::from_fn(|c| ((c * 5 + k) % 16) as u8);
        let blocks = [
            (0.02, -0.15, codes(0)),
            (-0.013, 0.11, codes(3)),
            (0.0, 0.25, codes(1)),
        ];
        let (scale, groups) = affine_row(&blocks);
        assert_eq!(groups[0].codes, codes(0));
        assert_eq!(groups[1].codes, codes(3).map(|q: u8| 15 - q));
        for (&(step, minimum, codes), g) in blocks.iter().zip(&groups) {
            for (c, q) in codes.into_iter().enumerate() {
                let want = step * f32::from(q) + minimum;
                let error = (value(scale, g, c) - want).abs();
                assert!(error <= 0.02 * 5.0 / 255.0 * 2.0, "{error}");
            }
        }
    }

    #[test]
    fn empty_groups_are_zero() {
        let (scale, groups) = float_row(&[0.0; 64], CodeWidth::Byte);
        assert_eq!(scale, 0.0);
        assert!(groups.iter().all(|g| g.scale == 0 && g.offset == 0));
    }
}
