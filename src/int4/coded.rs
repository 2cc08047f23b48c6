//! A stored matrix as bytes, entropy-coded, and its way into the kernels' layout: a whole model goes through here while
//! a visitor waits.
//!
//! ```text
//! tables    of each kind of number, then of the codes (`rans.rs`)
//! model     of codes of six bits: magnitudes (32, u16), means (cols, i8), spreads (cols, u8)
//! symbols   row scales (rows, the upper and the lower byte of a bf16), minimum steps (rows, likewise a u16),
//!           scales (rows, cols / 32), minima (rows, cols / 32), with six bits classes (rows), codes
//! ```
//!
//! Codes come panel by panel, group by group, four rows at a time, so that each lane of the decoder writes one row of
//! the panel that is being filled. Which table a code has depends on what is known before it:
//!
//! - four bits: where the zero of its group lies among the codes. The groups of a grid spread between least and largest
//!   weight differ in nothing else.
//! - six bits: how large the codes of its row are, and the mean and the spread that its column has in rows of
//!   magnitude one. Columns of an embedding differ in both by far more than their rows do; the mean is subtracted.

use super::columns::{Columns, Context, PADDING, TABLES, class, magnitude};
use super::packed::PackedMatrix;
use super::rans::{Decoder, Encoder, LANES, RUN, Run, Shares, Slots, Table};
use super::stored::{CodeBits, StoredRow};
use crate::error::{Error, Result};
use crate::kernels::{GROUP, PANEL, panels};

/// Kinds of numbers besides the codes, each with a table of its own before those of the codes.
const KINDS: usize = 7;
const SCALE_HIGH: usize = 0;
const SCALE_LOW: usize = 1;
const STEP_HIGH: usize = 2;
const STEP_LOW: usize = 3;
const SCALES: usize = 4;
const MINIMA: usize = 5;
const CLASSES: usize = 6;

/// The rows of a matrix, as bytes.
///
/// # Panics
/// Where a row has not `cols / 32` groups, or a scale that is no bf16.
pub fn encode(bits: CodeBits, cols: usize, rows: &[StoredRow]) -> Vec<u8> {
    let model = Model::of(bits, cols, rows);
    let mut counts = vec![[0u64; 256]; KINDS + TABLES + 1];
    walk(rows, cols, &model, |table, symbol| {
        counts[table][usize::from(symbol)] += 1;
    });
    let shares: Vec<Shares> = counts.iter().map(|counts| Shares::of(counts)).collect();
    let mut out = Vec::new();
    for shares in &shares[..KINDS + TABLES] {
        shares.write(&mut out);
    }
    model.write(&mut out);
    let mut encoder = Encoder::new(&shares);
    walk(rows, cols, &model, |table, symbol| {
        encoder.push(table, symbol);
    });
    out.extend(encoder.finish());
    out
}

/// Bytes that a matrix takes at the very most.
pub fn most_bytes(rows: usize, cols: usize) -> u64 {
    let [rows, cols] = [rows, cols].map(|n| n as u64);
    let panels = rows.div_ceil(PANEL as u64) * PANEL as u64;
    // A word a symbol, and what stands before the symbols.
    let symbols =
        panels * cols + rows * (cols / GROUP as u64) * 2 + rows * 5 + (4 * LANES * KINDS) as u64;
    2 * symbols + 2 * cols + (1 << 16)
}

/// The matrix whose rows [`encode`] made into `data`, in the kernels' layout.
///
/// # Errors
/// `not_a_model` for anything else, `out_of_memory`.
pub fn decode(mut data: &[u8], bits: CodeBits, rows: usize, cols: usize) -> Result<PackedMatrix> {
    let mut tables = Vec::with_capacity(KINDS + TABLES + 1);
    for kind in 0..KINDS + TABLES {
        let symbols = if kind < KINDS {
            256
        } else {
            usize::from(bits.max_code()) + 1
        };
        tables.push(Table::new(&Shares::read(&mut data, symbols)?));
    }
    tables.push(Table::new(&Shares::certain()));
    let (kinds, codes) = tables.split_at(KINDS);
    // A power of two of them, so that no look-up has to be checked.
    let codes: [&Slots; 2 * TABLES] =
        std::array::from_fn(|table| codes[table.min(PADDING)].slots());
    let model = Model::read(&mut data, bits, cols)?;
    // First what takes most: where it does not fit, that is an error and no abort.
    let mut matrix = PackedMatrix::zeros(bits.width(), rows, cols)?;
    let mut decoder = Decoder::new(data)?;
    let numbers = Numbers::read(&mut decoder, kinds, bits, rows, cols);
    for row in 0..rows {
        matrix.set_row_scale(row, numbers.row_scale(row)?);
    }
    let padding = vec![Context::PADDING; cols];
    for panel in 0..panels(rows) {
        for g in 0..cols / GROUP {
            let to = matrix.panel_group(panel, g);
            for (r, row) in (panel * PANEL..rows).take(PANEL).enumerate() {
                (to.scales[r], to.offsets[r]) = numbers.group(row, g, bits)?;
            }
            for half in 0..PANEL / LANES {
                let first = panel * PANEL + half * LANES;
                let row = |lane: usize| (first + lane < rows).then_some(first + lane);
                match &model {
                    Model::Zeros => {
                        let tables = std::array::from_fn(|lane| {
                            codes[row(lane).map_or(PADDING, |row| numbers.zero_class(row, g))]
                        });
                        decoder.run(|run| nibbles(run, tables, half, to.codes));
                    }
                    Model::Columns(columns) => {
                        let contexts = std::array::from_fn(|lane| {
                            let row = row(lane)
                                .map_or(&padding[..], |row| columns.row(numbers.classes[row]));
                            row[g * GROUP..].first_chunk().expect("a group of columns")
                        });
                        decoder.run(|run| bytes(run, &codes, contexts, half, to.codes));
                    }
                }
            }
        }
    }
    decoder.finish()?;
    Ok(matrix)
}

const _: () = assert!(RUN == LANES * GROUP, "a group of every lane is a run");

/// Four rows' codes of four bits, each row by its own table. Eight columns are one word of a row
/// ([`CodeWidth::place`](crate::kernels::CodeWidth::place)), the first four in the low nibbles.
///
/// Codes are stored byte by byte: where eight shifts put a word together, compilers make vectors of them, and moving every
/// symbol into one costs more than all stores.
#[inline(always)]
fn nibbles(run: &mut Run, tables: [&Slots; LANES], half: usize, to: &mut [u8]) {
    for to in to.chunks_exact_mut(4 * PANEL) {
        let to: &mut [u8; 4 * LANES] = half_of(to, half);
        for c in 0..4 {
            for (lane, symbol) in run.take(tables).into_iter().enumerate() {
                to[4 * lane + c] = symbol;
            }
        }
        for c in 0..4 {
            for (lane, symbol) in run.take(tables).into_iter().enumerate() {
                to[4 * lane + c] |= symbol << 4;
            }
        }
    }
}

/// Four rows' codes of six bits, each by the context of its row and column. Four columns are one word of a row.
#[inline(always)]
fn bytes(
    run: &mut Run,
    tables: &[&Slots; 2 * TABLES],
    contexts: [&[Context; GROUP]; LANES],
    half: usize,
    to: &mut [u8],
) {
    for (quad, to) in to.chunks_exact_mut(4 * PANEL).enumerate() {
        let mut words = [0u32; LANES];
        for c in 0..4 {
            let now = contexts.map(|row| row[(4 * quad + c) % GROUP]);
            let symbols = run.take(now.map(|at| tables[usize::from(at.table) % (2 * TABLES)]));
            for ((word, symbol), at) in words.iter_mut().zip(symbols).zip(now) {
                let code = symbol.wrapping_add(at.mean) & CodeBits::Six.max_code();
                *word |= u32::from(code) << (8 * c);
            }
        }
        let to = half_of(to, half).as_chunks_mut().0;
        for (to, word) in to.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

/// Four rows' part of a panel's words.
#[inline(always)]
fn half_of(words: &mut [u8], half: usize) -> &mut [u8; 4 * LANES] {
    let half = words[half * 4 * LANES..].first_chunk_mut();
    half.expect("a panel of two halves")
}

/// Everything but the codes, by kind.
struct Numbers {
    per_row: usize,
    row_scales: [Vec<u8>; 2],
    steps: [Vec<u8>; 2],
    scales: Vec<u8>,
    minima: Vec<u8>,
    classes: Vec<u8>,
}

impl Numbers {
    fn read(
        decoder: &mut Decoder,
        kinds: &[Table],
        bits: CodeBits,
        rows: usize,
        cols: usize,
    ) -> Self {
        let per_row = cols / GROUP;
        let mut take = |kind: usize, n: usize| decoder.symbols(&kinds[kind], n);
        Self {
            per_row,
            row_scales: [SCALE_HIGH, SCALE_LOW].map(|kind| take(kind, rows)),
            steps: [STEP_HIGH, STEP_LOW].map(|kind| take(kind, rows)),
            scales: take(SCALES, rows * per_row),
            minima: take(MINIMA, rows * per_row),
            classes: match bits {
                CodeBits::Four => Vec::new(),
                CodeBits::Six => take(CLASSES, rows),
            },
        }
    }

    fn row_scale(&self, row: usize) -> Result<f32> {
        let [high, low] = self.row_scales.each_ref().map(|bytes| bytes[row]);
        let scale = f32::from_bits(u32::from_be_bytes([high, low, 0, 0]));
        if scale.is_finite() && scale >= 0.0 {
            Ok(scale)
        } else {
            Err(Error::not_a_model(format!(
                "row {row}: {scale} is no scale"
            )))
        }
    }

    fn step(&self, row: usize) -> u16 {
        u16::from_be_bytes(self.steps.each_ref().map(|bytes| bytes[row]))
    }

    /// Scale and offset of a group.
    fn group(&self, row: usize, g: usize, bits: CodeBits) -> Result<(u8, i16)> {
        let at = row * self.per_row + g;
        let (scale, minimum) = (self.scales[at], self.minima[at] as i8);
        let offset = bits
            .offset(scale, minimum, self.step(row))
            .ok_or_else(|| Error::not_a_model(format!("row {row}: a minimum is out of range")))?;
        Ok((scale, offset))
    }

    fn zero_class(&self, row: usize, g: usize) -> usize {
        let at = row * self.per_row + g;
        zero_class(self.scales[at], self.minima[at] as i8, self.step(row))
    }
}

/// Every symbol with its table, in the order of decoding.
fn walk(rows: &[StoredRow], cols: usize, model: &Model, mut take: impl FnMut(usize, u8)) {
    let scale = |row: &StoredRow| {
        let bits = row.scale.to_bits();
        assert!(bits & 0xffff == 0, "a row's scale is no bf16");
        bits
    };
    let mut numbers = |kind: usize, per_row: usize, number: &dyn Fn(&StoredRow, usize) -> u8| {
        let mut last = 0;
        for row in rows {
            for g in 0..per_row {
                last = number(row, g);
                take(kind, last);
            }
        }
        // Whole fours, so that every kind begins in the first lane.
        let n = rows.len() * per_row;
        for _ in n..n.next_multiple_of(LANES) {
            take(kind, last);
        }
    };
    numbers(SCALE_HIGH, 1, &|row, _| (scale(row) >> 24) as u8);
    numbers(SCALE_LOW, 1, &|row, _| (scale(row) >> 16) as u8);
    numbers(STEP_HIGH, 1, &|row, _| (row.minimum_step >> 8) as u8);
    numbers(STEP_LOW, 1, &|row, _| row.minimum_step as u8);
    numbers(SCALES, cols / GROUP, &|row, g| row.groups[g].scale);
    numbers(MINIMA, cols / GROUP, &|row, g| row.groups[g].minimum as u8);
    let classes: Vec<u8> = match model {
        Model::Zeros => Vec::new(),
        Model::Columns(_) => {
            numbers(CLASSES, 1, &|row, _| class(magnitude(row)));
            rows.iter().map(|row| class(magnitude(row))).collect()
        }
    };
    let code = |index: usize, g: usize, c: usize| {
        let Some(row) = rows.get(index) else {
            return (KINDS + PADDING, 0);
        };
        let group = &row.groups[g];
        match model {
            Model::Zeros => {
                let table = zero_class(group.scale, group.minimum, row.minimum_step);
                (KINDS + table, group.codes[c])
            }
            Model::Columns(columns) => {
                let context = columns.row(classes[index])[g * GROUP + c];
                let symbol = group.codes[c].wrapping_sub(context.mean);
                let symbol = symbol & CodeBits::Six.max_code();
                (KINDS + usize::from(context.table), symbol)
            }
        }
    };
    for first in (0..panels(rows.len()) * PANEL).step_by(PANEL) {
        for g in 0..cols / GROUP {
            for half in (first..first + PANEL).step_by(LANES) {
                for c in 0..GROUP {
                    for index in half..half + LANES {
                        let (table, symbol) = code(index, g, c);
                        take(table, symbol);
                    }
                }
            }
        }
    }
}

/// Where among 16 codes a group's zero lies, in steps of two thirds of a code around the middle.
fn zero_class(scale: u8, minimum: i8, step: u16) -> usize {
    let from_middle = 3 * i32::from(minimum) * i32::from(step);
    let class = match i32::from(scale) {
        0 => 0,
        scale => (from_middle + scale).div_euclid(2 * scale),
    };
    (class + 8).clamp(0, 15) as usize
}

/// What is known of a code before it is read.
#[derive(Debug, Clone, PartialEq)]
enum Model {
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

    fn read(data: &mut &[u8], bits: CodeBits, cols: usize) -> Result<Self> {
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
        let magnitudes = take(2 * TABLES)?.as_chunks().0;
        let magnitudes = std::array::from_fn(|class| u16::from_le_bytes(magnitudes[class]));
        let means = take(cols)?.iter().map(|&mean| mean as i8).collect();
        let spreads = take(cols)?.to_vec();
        Ok(Self::Columns(Columns::new(magnitudes, means, spreads)))
    }
}

#[cfg(test)]
mod tests {
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
    fn rows_come_back() {
        for bits in CodeBits::ALL {
            for (n, cols) in [(11, 96), (8, 32), (1, 64), (48, 576)] {
                let all = rows(bits, n, cols);
                let data = encode(bits, cols, &all);
                assert!(data.len() as u64 <= most_bytes(n, cols));
                assert_eq!(data, encode(bits, cols, &all));
                let matrix = decode(&data, bits, n, cols).unwrap();
                for (r, row) in all.iter().enumerate() {
                    assert_eq!(matrix.row_scale(r), row.scale);
                    for (g, stored) in row.groups.iter().enumerate() {
                        let expected = stored.group(bits, row.minimum_step).unwrap();
                        assert_eq!(matrix.group(r, g), expected, "{bits:?} row {r} group {g}");
                    }
                }
            }
        }
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
