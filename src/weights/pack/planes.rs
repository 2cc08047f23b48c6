//! A matrix as planes: everything of one kind together, because that is what compresses.
//!
//! ```text
//! high      (rows, cols)       the codes' upper four bits, two a byte, the even column's below
//! low       (rows, cols)       their other bits, if any, from the lowest bit of a byte up
//! scales    (rows, cols / 32)  u8
//! minima    (rows, cols / 32)  i8
//! steps     (rows)             u16, the row's minimum step
//! rows      (rows)             f32, the row's scale
//! ```
//!
//! All little-endian ([`Planes`]); what the numbers mean is [`StoredRow`]'s to say.

use crate::error::Result;
use crate::int4::{CodeBits, GROUP, PackedMatrix, Planes, StoredRow, low_bytes};

/// Bytes of each plane of a matrix, in order.
pub(super) fn lengths(bits: CodeBits, rows: usize, cols: usize) -> Vec<u64> {
    let [weights, groups] = [rows * cols, rows * (cols / GROUP)].map(|n| n as u64);
    let rows = rows as u64;
    let mut planes = vec![weights / 2];
    if bits.bits() > 4 {
        planes.push(weights / 8 * u64::from(bits.bits() - 4));
    }
    planes.extend([groups, groups, 2 * rows, 4 * rows]);
    planes
}

/// Gathers rows.
pub(super) struct PlaneWriter {
    low_bits: u32,
    high: Vec<u8>,
    low: Vec<u8>,
    scales: Vec<u8>,
    minima: Vec<u8>,
    steps: Vec<u8>,
    rows: Vec<u8>,
}

impl PlaneWriter {
    pub fn new(bits: CodeBits) -> Self {
        Self {
            low_bits: bits.bits() - 4,
            high: Vec::new(),
            low: Vec::new(),
            scales: Vec::new(),
            minima: Vec::new(),
            steps: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn push(&mut self, row: &StoredRow) {
        for group in &row.groups {
            let high = group.codes.map(|code| code >> self.low_bits);
            self.high
                .extend(high.as_chunks().0.iter().map(|[a, b]| a | b << 4));
            if self.low_bits > 0 {
                let mut low = [0u8; GROUP / 2];
                for (c, code) in group.codes.into_iter().enumerate() {
                    let (byte, shift) = low_place(c, self.low_bits);
                    low[byte] |= (code & low_mask(self.low_bits)) << shift;
                }
                self.low.extend_from_slice(&low[..low_bytes(self.low_bits)]);
            }
            self.scales.push(group.scale);
            self.minima.push(group.minimum as u8);
        }
        self.steps.extend(row.minimum_step.to_le_bytes());
        self.rows.extend(row.scale.to_le_bytes());
    }

    /// The planes, one behind the other.
    pub fn finish(self) -> Vec<u8> {
        let mut all = self.high;
        for plane in [self.low, self.scales, self.minima, self.steps, self.rows] {
            all.extend(plane);
        }
        all
    }
}

/// The matrix whose planes `data` holds; `data` has the length of [`lengths`].
///
/// # Errors
/// `not_a_model` for a row whose numbers the kernels cannot hold, `out_of_memory`.
pub(super) fn decode(
    data: &[u8],
    bits: CodeBits,
    rows: usize,
    cols: usize,
) -> Result<PackedMatrix> {
    let groups = rows * (cols / GROUP);
    let (high, rest) = data.split_at(rows * cols / 2);
    let (low, rest) = rest.split_at(groups * low_bytes(bits.bits() - 4));
    let (scales, rest) = rest.split_at(groups);
    let (minima, rest) = rest.split_at(groups);
    let (steps, row_scales) = rest.split_at(2 * rows);
    Planes {
        bits,
        rows,
        cols,
        high,
        low,
        scales,
        minima,
        steps,
        row_scales,
    }
    .unpack()
}

const fn low_mask(low_bits: u32) -> u8 {
    (1 << low_bits) - 1
}

/// Where the lower bits of code `c` of a group lie: byte and shift. One, two and four bits divide a byte.
const fn low_place(c: usize, low_bits: u32) -> (usize, u32) {
    let bit = c * low_bits as usize;
    (bit / 8, (bit % 8) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int4::StoredGroup;

    #[test]
    fn planes_give_back_the_rows() {
        for bits in CodeBits::ALL {
            let (rows, cols) = (11, 96);
            let mut writer = PlaneWriter::new(bits);
            let all: Vec<StoredRow> = (0..rows)
                .map(|r| StoredRow {
                    scale: 0.5 + r as f32,
                    minimum_step: 3 + r as u16,
                    groups: (0..cols / GROUP)
                        .map(|g| StoredGroup {
                            codes: std::array::from_fn(|c| {
                                (7 * r + 5 * g + 11 * c) as u8 & bits.max_code()
                            }),
                            scale: (17 * r + g) as u8,
                            minimum: (9 * r + g) as i8 - 60,
                        })
                        .collect(),
                })
                .collect();
            all.iter().for_each(|row| writer.push(row));
            let data = writer.finish();
            assert_eq!(
                data.len() as u64,
                lengths(bits, rows, cols).iter().sum::<u64>()
            );
            let matrix = decode(&data, bits, rows, cols).unwrap();
            for (r, row) in all.iter().enumerate() {
                assert_eq!(matrix.row_scale(r), row.scale);
                for (g, stored) in row.groups.iter().enumerate() {
                    let expected = stored.group(bits, row.minimum_step).unwrap();
                    assert_eq!(matrix.group(r, g), expected, "{bits:?} row {r} group {g}");
                }
            }
        }
    }

    #[test]
    fn rows_the_kernels_cannot_hold_are_refused() {
        let bits = CodeBits::Four;
        let row = |scale: f32, minimum_step: u16| {
            let mut writer = PlaneWriter::new(bits);
            writer.push(&StoredRow {
                scale,
                minimum_step,
                groups: vec![StoredGroup {
                    codes: [0; GROUP],
                    scale: 9,
                    minimum: -100,
                }],
            });
            decode(&writer.finish(), bits, 1, GROUP)
        };
        assert!(row(1.0, 300).is_ok());
        for bad in [
            row(1.0, 400),
            row(f32::NAN, 1),
            row(f32::INFINITY, 1),
            row(-1.0, 1),
        ] {
            let error = bad.unwrap_err();
            assert_eq!(error.code(), "not_a_model");
            assert!(error.to_string().starts_with("row 0: "), "{error}");
        }
    }
}
