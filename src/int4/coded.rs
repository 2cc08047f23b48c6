//! A stored matrix as bytes, entropy-coded; `decoding.rs` is the way back.
//!
//! ```text
//! tables    of each kind of number, then of the codes (`rans.rs`)
//! model     of codes of six bits: magnitudes (32, u16), means (cols, i8), spreads (cols, u8)
//! lengths   of the pieces (u32)
//! pieces    some rows each, coded apart, so that as many threads as there are can decode:
//!           row scales (rows, the upper and the lower byte of a bf16), minimum steps (rows, likewise a u16),
//!           scales and minima (panels, cols / 32, 8), with six bits classes (rows), codes
//! ```
//!
//! Codes come panel by panel, group by group, in the order in which the kernels' words are filled: of eight columns the
//! first of all eight rows, then the fifth, the second, the sixth, … so that sixteen lanes write the eight rows' next byte,
//! two codes each where they have four bits. Which table a code has depends on what is known before it:
//!
//! - four bits: where the zero of its group lies among the codes. The groups of a grid spread between least and largest
//!   weight differ in nothing else.
//! - six bits: how large the codes of its row are, and the mean and the spread that its column has in rows of
//!   magnitude one. Columns of an embedding differ in both by far more than their rows do; the mean is subtracted.

use super::columns::{self, Columns, class, magnitude};
use super::rans::{Encoder, LANES, Shares};
use super::stored::{CodeBits, StoredRow};
use crate::error::{Error, Result};
use crate::kernels::{GROUP, PANEL};

/// Kinds of numbers besides the codes, each with a table of its own before those of the codes.
pub(super) const SCALE_HIGH: usize = 0;
pub(super) const SCALE_LOW: usize = 1;
pub(super) const STEP_HIGH: usize = 2;
pub(super) const STEP_LOW: usize = 3;
pub(super) const SCALES: usize = 4;
pub(super) const MINIMA: usize = 5;
/// With codes of six bits.
pub(super) const CLASSES: usize = 6;

/// Kinds of numbers that a matrix has.
pub(super) const fn kinds(bits: CodeBits) -> usize {
    match bits {
        CodeBits::Four => CLASSES,
        CodeBits::Six => CLASSES + 1,
    }
}

/// Tables of codes. The next number is that of rows that are not there.
pub(super) const fn code_tables(bits: CodeBits) -> usize {
    match bits {
        CodeBits::Four => 16,
        CodeBits::Six => columns::TABLES,
    }
}

/// Codes of a piece, about: enough that what a piece costs is nothing, few enough that there are some in every matrix.
const PIECE: usize = 96 << 10;

/// Rows of each piece but the last, pairs of panels, so that no kind of number needs padding in them.
pub(super) fn rows_a_piece(rows: usize, cols: usize) -> usize {
    let pieces = rows.saturating_mul(cols).div_ceil(PIECE).max(1);
    rows.div_ceil(pieces).next_multiple_of(2 * PANEL)
}

/// The rows of a matrix, as bytes.
///
/// # Panics
/// Where a row has not `cols / 32` groups, or a scale that is no bf16.
pub fn encode(bits: CodeBits, cols: usize, rows: &[StoredRow]) -> Vec<u8> {
    let model = Model::of(bits, cols, rows);
    let pieces = || rows.chunks(rows_a_piece(rows.len(), cols));
    let tables = code_tables(bits) + 1 + kinds(bits);
    let mut counts = vec![[0u64; 256]; tables];
    for rows in pieces() {
        walk(rows, cols, bits, &model, |table, symbol| {
            counts[table][usize::from(symbol)] += 1;
        });
    }
    let shares: Vec<Shares> = counts.iter().map(|counts| Shares::of(counts)).collect();
    let mut out = Vec::new();
    let (codes, numbers) = shares.split_at(code_tables(bits));
    // That of rows that are not there is known.
    for shares in numbers[1..].iter().chain(codes) {
        shares.write(&mut out);
    }
    model.write(&mut out);
    let coded = pieces().map(|rows| {
        let mut encoder = Encoder::new(&shares);
        walk(rows, cols, bits, &model, |table, symbol| {
            encoder.push(table, symbol);
        });
        encoder.finish()
    });
    let coded: Vec<Vec<u8>> = coded.collect();
    for piece in &coded {
        out.extend((piece.len() as u32).to_le_bytes());
    }
    out.extend(coded.into_iter().flatten());
    out
}

/// Bytes that a matrix takes at the very most.
pub fn most_bytes(rows: usize, cols: usize) -> u64 {
    let pieces = rows.div_ceil(rows_a_piece(rows, cols)) as u64;
    let [rows, cols] = [rows, cols].map(|n| n as u64);
    let panels = rows.div_ceil(PANEL as u64) * PANEL as u64;
    let padding = pieces * (LANES * (CLASSES + 1)) as u64;
    let symbols = panels * (cols + cols / GROUP as u64 * 2 + 5) + padding;
    // A word a symbol, and what stands before them.
    2 * symbols + pieces * (4 + 4 * LANES as u64) + 2 * cols + (1 << 16)
}

/// Every symbol of a piece with its table, in the order of decoding.
fn walk(
    rows: &[StoredRow],
    cols: usize,
    bits: CodeBits,
    model: &Model,
    mut take: impl FnMut(usize, u8),
) {
    let scale = |row: &StoredRow| {
        let bits = row.scale.to_bits();
        assert!(bits & 0xffff == 0, "a row's scale is no bf16");
        bits
    };
    let padding = code_tables(bits);
    let groups = cols / GROUP;
    let mut numbers = |kind: usize, all: &mut dyn Iterator<Item = u8>| {
        let table = padding + 1 + kind;
        let (mut n, mut last) = (0, 0);
        for number in all {
            take(table, number);
            (n, last) = (n + 1, number);
        }
        // Every kind begins in the first lane.
        for _ in n..usize::next_multiple_of(n, LANES) {
            take(table, last);
        }
    };
    numbers(
        SCALE_HIGH,
        &mut rows.iter().map(|row| (scale(row) >> 24) as u8),
    );
    numbers(
        SCALE_LOW,
        &mut rows.iter().map(|row| (scale(row) >> 16) as u8),
    );
    let steps = rows.iter().map(|row| row.minimum_step);
    numbers(STEP_HIGH, &mut steps.clone().map(|step| (step >> 8) as u8));
    numbers(STEP_LOW, &mut steps.map(|step| step as u8));
    // In the order of the kernels' panels; rows that are not there have those of the last.
    let by_group = (0..rows.len()).step_by(PANEL).flat_map(|first| {
        let row = move |r: usize| &rows[(first + r).min(rows.len() - 1)];
        (0..groups).flat_map(move |g| (0..PANEL).map(move |r| &row(r).groups[g]))
    });
    numbers(SCALES, &mut by_group.clone().map(|group| group.scale));
    numbers(MINIMA, &mut by_group.map(|group| group.minimum as u8));
    let classes: Vec<u8> = match model {
        Model::Zeros => Vec::new(),
        Model::Columns(_) => {
            let classes: Vec<u8> = rows.iter().map(|row| class(magnitude(row))).collect();
            numbers(CLASSES, &mut classes.iter().copied());
            classes
        }
    };
    let code = |index: usize, g: usize, c: usize| {
        let Some(row) = rows.get(index) else {
            return (padding, 0);
        };
        let group = &row.groups[g];
        match model {
            Model::Zeros => {
                let table = zero_class(group.scale, group.minimum, row.minimum_step);
                (table as usize, group.codes[c])
            }
            Model::Columns(columns) => {
                let (table, mean) = columns.context(classes[index], g * GROUP + c);
                let symbol = group.codes[c].wrapping_sub(mean) & CodeBits::Six.max_code();
                (table, symbol)
            }
        }
    };
    for first in (0..rows.len()).step_by(PANEL) {
        for g in 0..cols / GROUP {
            for eight in (0..GROUP).step_by(8) {
                for column in [0, 4, 1, 5, 2, 6, 3, 7] {
                    for index in first..first + PANEL {
                        let (table, symbol) = code(index, g, eight + column);
                        take(table, symbol);
                    }
                }
            }
        }
    }
}

/// Where among 16 codes a group's zero lies, in steps of two thirds of a code around the middle.
#[inline(always)]
pub(super) fn zero_class(scale: u8, minimum: i8, step: u16) -> u32 {
    let wide = i32::from(scale);
    let from_start = 3 * i32::from(minimum) * i32::from(step) + 17 * wide;
    (from_start.clamp(0, 31 * wide) as u32 * PER_CLASS[usize::from(scale)]) >> 22
}

/// 2²² over twice a scale, rounded up: `x · this >> 22` is `x / (2 · scale)`, whole, for x up to 31 scales. A division
/// takes longer than all the rest of a group's numbers. Scales of zero are of class 0.
const PER_CLASS: [u32; 256] = {
    let mut all = [0; 256];
    let mut scale = 1;
    while scale < 256 {
        all[scale] = (1u32 << 22).div_ceil(2 * scale as u32);
        scale += 1;
    }
    all
};

/// What is known of a code before it is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Model {
    /// The place of the group's zero.
    Zeros,
    /// The row's magnitude, the column's mean and spread.
    Columns(Columns),
}

impl Model {
    fn of(bits: CodeBits, cols: usize, rows: &[StoredRow]) -> Self {
        match bits {
            CodeBits::Four => Self::Zeros,
            CodeBits::Six => Self::Columns(Columns::of(cols, rows)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Self::Columns(columns) = self {
            out.extend(columns.magnitudes.iter().flat_map(|m| m.to_le_bytes()));
            out.extend(columns.means.iter().map(|&mean| mean as u8));
            out.extend(&columns.spreads);
        }
    }

    pub fn read(data: &mut &[u8], bits: CodeBits, cols: usize) -> Result<Self> {
        if bits == CodeBits::Four {
            return Ok(Self::Zeros);
        }
        let mut take = |n: usize| {
            let (front, rest) = data
                .split_at_checked(n)
                .ok_or_else(|| Error::not_a_model("the model of the columns is cut off"))?;
            *data = rest;
            Ok::<_, Error>(front)
        };
        let magnitudes = take(2 * columns::TABLES)?.as_chunks().0;
        let magnitudes = std::array::from_fn(|class| u16::from_le_bytes(magnitudes[class]));
        let means = take(cols)?.iter().map(|&mean| mean as i8).collect();
        let spreads = take(cols)?.to_vec();
        Ok(Self::Columns(Columns {
            magnitudes,
            means,
            spreads,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::stored::StoredGroup;
    use super::*;

    fn rows(bits: CodeBits, rows: usize, cols: usize) -> Vec<StoredRow> {
        let mut x = 3u32;
        let mut next = |below: u32| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) % below
        };
        let mut row = |r: usize| StoredRow {
            scale: [0.5, 3.0, 0.0, 0.125][r % 4],
            minimum_step: 3 + (r % 50) as u16,
            groups: (0..cols / GROUP)
                .map(|g| StoredGroup {
                    codes: std::array::from_fn(|c| {
                        let most = u32::from(bits.max_code()) + 1;
                        let bell = (0..4).map(|_| next(most)).sum::<u32>() / 4;
                        (bell + (c % 5) as u32).min(most - 1) as u8
                    }),
                    scale: (17 * r + g) as u8,
                    minimum: (9 * r + g) as i8 - 60,
                })
                .collect(),
        };
        (0..rows).map(&mut row).collect()
    }

    #[test]
    fn damage_is_an_error_or_other_numbers_and_never_a_panic() {
        for bits in CodeBits::ALL {
            let (n, cols) = (11, 96);
            let data = encode(bits, cols, &rows(bits, n, cols));
            for cut in 0..data.len() {
                assert!(decode(&data[..cut], bits, n, cols).is_err(), "{cut}");
            }
            for at in 0..data.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut bad = data.clone();
                    bad[at] ^= flip;
                    if let Err(e) = decode(&bad, bits, n, cols) {
                        assert_eq!(e.code(), "not_a_model");
                    }
                }
            }
            // Another shape takes other symbols.
            assert!(decode(&data, bits, n, cols + GROUP).is_err());
            assert!(decode(&data, bits, n + PANEL, cols).is_err());
            assert!(decode(&[], bits, n, cols).is_err());
        }
    }

    #[test]
    fn rows_the_kernels_cannot_hold_are_refused() {
        let bits = CodeBits::Four;
        let row = |scale: f32, minimum_step: u16| {
            let row = StoredRow {
                scale,
                minimum_step,
                groups: vec![StoredGroup {
                    codes: [0; GROUP],
                    scale: 9,
                    minimum: -100,
                }],
            };
            decode(&encode(bits, GROUP, &[row]), bits, 1, GROUP)
        };
        assert!(row(1.0, 300).is_ok());
        let nan = f32::from_bits(0x7fc0_0000);
        for bad in [
            row(1.0, 400),
            row(nan, 1),
            row(f32::INFINITY, 1),
            row(-1.0, 1),
        ] {
            let error = bad.unwrap_err();
            assert_eq!(error.code(), "not_a_model");
            assert!(error.to_string().starts_with("row 0: "), "{error}");
        }
    }

    #[test]
    fn skewed_codes_take_less_than_their_width() {
        for bits in CodeBits::ALL {
            let (n, cols) = (512, 576);
            let bytes = encode(bits, cols, &rows(bits, n, cols)).len();
            let raw = n * cols * bits.bits() as usize / 8 + 2 * n * cols / GROUP;
            assert!(bytes < raw * 95 / 100, "{bits:?}: {bytes} of {raw}");
        }
    }
}
