//! From a stored matrix's bytes (`coded.rs`) into the kernels' layout: a whole model goes through here while a visitor
//! waits.

use super::coded::{
    CLASSES, MINIMA, Model, SCALE_HIGH, SCALE_LOW, SCALES, STEP_HIGH, STEP_LOW, code_tables, kinds,
    rows_a_piece, zero_class,
};
use super::columns::{Columns, NO_SPREAD, TABLES};
use super::four::Four;
use super::packed::{PackedMatrix, Panels};
use super::rans::{Decoder, RUN, Run, Shares, TABLE_BYTES, Tables, VECTORS, at_table};
use super::stored::CodeBits;
use crate::error::{Error, Result};
use crate::kernels::{GROUP, PANEL, for_ranges, panels};
use std::sync::Mutex;

/// The matrix whose rows [`encode`](super::encode) made into `data`, in the kernels' layout. Pieces are decoded on as
/// many threads as compute.
///
/// # Errors
/// `not_a_model` for anything else, `out_of_memory`.
pub fn decode(data: &[u8], bits: CodeBits, rows: usize, cols: usize) -> Result<PackedMatrix> {
    match bits {
        CodeBits::Four => decode_with::<{ 32 * TABLE_BYTES }>(data, bits, rows, cols),
        CodeBits::Six => decode_with::<{ 64 * TABLE_BYTES }>(data, bits, rows, cols),
    }
}

/// `N`: bytes of tables, a power of two that is enough.
fn decode_with<const N: usize>(
    mut data: &[u8],
    bits: CodeBits,
    rows: usize,
    cols: usize,
) -> Result<PackedMatrix> {
    let padding = code_tables(bits);
    let mut tables = Tables::<N>::new();
    for kind in 0..kinds(bits) {
        tables.set(padding + 1 + kind, &Shares::read(&mut data, 256)?);
    }
    for table in 0..padding {
        let symbols = usize::from(bits.max_code()) + 1;
        tables.set(table, &Shares::read(&mut data, symbols)?);
    }
    tables.set(padding, &Shares::certain());
    let shared = Shared {
        tables,
        model: Model::read(&mut data, bits, cols)?,
        bits,
        cols,
    };
    let rows_a_piece = rows_a_piece(rows, cols);
    let coded = pieces(data, rows.div_ceil(rows_a_piece))?;
    // Where this does not fit, that is an error and no abort.
    let mut matrix = PackedMatrix::zeros(bits.width(), rows, cols)?;
    let to = matrix.pieces(rows_a_piece / PANEL);
    let pieces: Vec<_> = (coded.into_iter().zip(to).enumerate())
        .map(|(i, (data, to))| {
            let first = i * rows_a_piece;
            let piece = Piece {
                data,
                first,
                rows: rows_a_piece.min(rows - first),
                to,
            };
            Mutex::new((piece, Ok(())))
        })
        .collect();
    for_ranges(pieces.len(), 1, |range| {
        for piece in &pieces[range] {
            let (piece, result) = &mut *piece.lock().unwrap_or_else(|e| e.into_inner());
            *result = piece.decode(&shared);
        }
    });
    for piece in pieces {
        piece.into_inner().unwrap_or_else(|e| e.into_inner()).1?;
    }
    Ok(matrix)
}

/// The bytes of `n` pieces behind their lengths.
fn pieces(mut data: &[u8], n: usize) -> Result<Vec<&[u8]>> {
    let bad = || Error::not_a_model("entropy-coded data is cut off");
    let (lengths, rest) = n
        .checked_mul(4)
        .and_then(|bytes| data.split_at_checked(bytes))
        .ok_or_else(bad)?;
    data = rest;
    let mut pieces = Vec::with_capacity(n);
    for length in lengths.as_chunks().0 {
        let length = u32::from_le_bytes(*length) as usize;
        let (piece, rest) = data.split_at_checked(length).ok_or_else(bad)?;
        pieces.push(piece);
        data = rest;
    }
    if data.is_empty() {
        Ok(pieces)
    } else {
        Err(Error::not_a_model("entropy-coded data is too long"))
    }
}

/// What all pieces of a matrix have in common.
struct Shared<const N: usize> {
    tables: Tables<N>,
    model: Model,
    bits: CodeBits,
    cols: usize,
}

/// Some rows of a matrix: what they are coded as, and where they go.
struct Piece<'a> {
    data: &'a [u8],
    /// The first row's number in the matrix, for messages.
    first: usize,
    rows: usize,
    to: Panels<'a>,
}

impl Piece<'_> {
    // Never inlined: engines that compile twice exchange a function when it is called.
    #[inline(never)]
    fn decode<const N: usize>(&mut self, shared: &Shared<N>) -> Result<()> {
        let tables = shared.tables.bytes();
        let mut decoder = Decoder::new(self.data)?;
        let numbers = Numbers::read(&mut decoder, shared, self.rows);
        let at_row = |e: Error, row: usize| e.at(format_args!("row {}", self.first + row));
        for (row, to) in self.to.row_scales.iter_mut().take(self.rows).enumerate() {
            *to = numbers.row_scale(row).map_err(|e| at_row(e, row))?;
        }
        let groups = shared.cols / GROUP;
        for panel in 0..panels(self.rows) {
            let first = panel * PANEL;
            let rows = PANEL.min(self.rows - first);
            let contexts = match &shared.model {
                Model::Zeros => None,
                Model::Columns(columns) => Some(numbers.contexts(columns, first, rows)),
            };
            let steps = numbers.steps(first, rows);
            for g in 0..groups {
                let to = self.to.group(panel, g);
                let (scales, minima) = numbers.group(panel * groups + g);
                // Rows that are not there keep zeros, and the table that has nothing else.
                let mut zeros = [code_tables(shared.bits) as u32; PANEL];
                for (r, zero) in zeros.iter_mut().enumerate().take(rows) {
                    let (scale, minimum, step) = (scales[r], minima[r] as i8, steps[r]);
                    let offset = shared.bits.offset(scale, minimum, step).ok_or_else(|| {
                        at_row(Error::not_a_model("a minimum is out of range"), first + r)
                    })?;
                    (to.scales[r], to.offsets[r]) = (scale, offset.to_ne_bytes());
                    *zero = zero_class(scale, minimum, step);
                }
                match (&shared.model, &contexts) {
                    (Model::Columns(columns), Some(contexts)) => {
                        let columns = columns.group(g);
                        decoder.run(|run| bytes(run, tables, *contexts, columns, to.codes));
                    }
                    _ => decoder.run(|run| nibbles(run, tables, zeros, to.codes)),
                }
            }
        }
        decoder.finish()
    }
}

const _: () = assert!(RUN == PANEL * GROUP && VECTORS == 2 * PANEL / 4);

/// A panel's codes of four bits in one group, each row by a table of its own. Eight columns are one word of a row
/// ([`CodeWidth::place`](crate::kernels::CodeWidth::place)), the first four in the low nibbles.
#[inline(always)]
fn nibbles<const N: usize>(run: &mut Run, tables: &[u8; N], at: [u32; PANEL], to: &mut [u8]) {
    let [upper, lower] = fours(at);
    let at = [at_table(upper), at_table(lower)];
    for to in to.as_chunks_mut::<{ 4 * PANEL }>().0 {
        let words = two_nibbles(run, tables, at);
        let words = join::<8>(words, two_nibbles(run, tables, at));
        let words = join::<16>(words, two_nibbles(run, tables, at));
        store(join::<24>(words, two_nibbles(run, tables, at)), to);
    }
}

/// Every row's next byte. (Functions, here and below, and no closures: those are not always put where they are called,
/// and then all states go through memory.)
#[inline(always)]
fn two_nibbles<const N: usize>(
    run: &mut Run,
    tables: &[u8; N],
    [upper, lower]: [Four; 2],
) -> [Four; 2] {
    let [a, b, high_a, high_b] = run.take(tables, [upper, lower, upper, lower]);
    [a.or(high_a.shl::<4>()), b.or(high_b.shl::<4>())]
}

/// What the codes of six bits in some rows of a panel depend on, by row.
#[derive(Clone, Copy)]
struct Context {
    class: Four,
    magnitude: Four,
    /// The last table that the row may use.
    last: Four,
}

impl Context {
    /// The tables of a column's codes (`Columns::context`).
    #[inline(always)]
    fn tables(self, spread: u8) -> Four {
        let spread = Four::splat(u32::from(spread).wrapping_sub(NO_SPREAD.into()));
        let table = self.class.add(spread).max(Four::splat(0));
        at_table(table.min(self.last))
    }

    /// The codes of a column. Only the lowest bits of the mean are left.
    #[inline(always)]
    fn codes(self, mean: i8, symbols: Four) -> Four {
        let mean = Four::splat(i32::from(mean) as u32).mul(self.magnitude);
        let code = symbols.add(mean.add(Four::splat(128)).shr::<8>());
        code.and(Four::splat(CodeBits::Six.max_code().into()))
    }
}

/// A panel's codes of six bits in one group, each by the context of its row and column. Four columns are one word of a
/// row.
#[inline(always)]
fn bytes<const N: usize>(
    run: &mut Run,
    tables: &[u8; N],
    contexts: [Context; 2],
    (means, spreads): (&[i8; GROUP], &[u8; GROUP]),
    to: &mut [u8],
) {
    let columns = means.as_chunks().0.iter().zip(spreads.as_chunks().0);
    for (to, (means, spreads)) in to
        .as_chunks_mut::<{ 8 * PANEL }>()
        .0
        .iter_mut()
        .zip(columns)
    {
        let (first, fifth) = two_columns::<N, 0>(run, tables, contexts, means, spreads);
        let (second, sixth) = two_columns::<N, 1>(run, tables, contexts, means, spreads);
        let (third, seventh) = two_columns::<N, 2>(run, tables, contexts, means, spreads);
        let (fourth, eighth) = two_columns::<N, 3>(run, tables, contexts, means, spreads);
        let [left, right] = to.as_chunks_mut().0 else {
            unreachable!("eight columns are two words")
        };
        let words = join::<16>(join::<8>(first, second), third);
        store(join::<24>(words, fourth), left);
        let words = join::<16>(join::<8>(fifth, sixth), seventh);
        store(join::<24>(words, eighth), right);
    }
}

/// The codes of all rows in column `C` of eight, and in the fourth after it.
#[inline(always)]
fn two_columns<const N: usize, const C: usize>(
    run: &mut Run,
    tables: &[u8; N],
    [upper, lower]: [Context; 2],
    means: &[i8; 8],
    spreads: &[u8; 8],
) -> ([Four; 2], [Four; 2]) {
    let [left, right] = [spreads[C], spreads[C + 4]];
    let at = [
        upper.tables(left),
        lower.tables(left),
        upper.tables(right),
        lower.tables(right),
    ];
    let [a, b, c, d] = run.take(tables, at);
    let [left, right] = [means[C], means[C + 4]];
    (
        [upper.codes(left, a), lower.codes(left, b)],
        [upper.codes(right, c), lower.codes(right, d)],
    )
}

/// Eight rows' numbers.
#[inline(always)]
fn fours(rows: [u32; PANEL]) -> [Four; 2] {
    let [a, b, c, d, e, f, g, h] = rows;
    [Four::new([a, b, c, d]), Four::new([e, f, g, h])]
}

/// Puts the next byte into every row's word.
#[inline(always)]
fn join<const SHIFT: u32>(words: [Four; 2], bytes: [Four; 2]) -> [Four; 2] {
    let ([a, b], [c, d]) = (words, bytes);
    [a.or(c.shl::<SHIFT>()), b.or(d.shl::<SHIFT>())]
}

#[inline(always)]
fn store(words: [Four; 2], to: &mut [u8; 4 * PANEL]) {
    for (word, to) in words.into_iter().zip(to.as_chunks_mut().0) {
        *to = word.to_bytes();
    }
}

/// Everything but the codes, by kind.
struct Numbers {
    row_scales: [Vec<u8>; 2],
    steps: [Vec<u8>; 2],
    /// (panel, group, row)
    scales: Vec<u8>,
    /// (panel, group, row)
    minima: Vec<u8>,
    classes: Vec<u8>,
}

impl Numbers {
    fn read<const N: usize>(decoder: &mut Decoder, shared: &Shared<N>, rows: usize) -> Self {
        let cells = panels(rows) * (shared.cols / GROUP);
        let tables = shared.tables.bytes();
        let mut take =
            |kind: usize, n: usize| decoder.symbols(tables, code_tables(shared.bits) + 1 + kind, n);
        Self {
            row_scales: [SCALE_HIGH, SCALE_LOW].map(|kind| take(kind, rows)),
            steps: [STEP_HIGH, STEP_LOW].map(|kind| take(kind, rows)),
            scales: take(SCALES, cells * PANEL),
            minima: take(MINIMA, cells * PANEL),
            classes: match shared.bits {
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
            Err(Error::not_a_model(format!("{scale} is no scale")))
        }
    }

    /// The minimum steps of some rows of a panel, from `first` on.
    fn steps(&self, first: usize, rows: usize) -> [u16; PANEL] {
        let mut steps = [0; PANEL];
        let [high, low] = self.steps.each_ref().map(|bytes| &bytes[first..][..rows]);
        for ((step, &high), &low) in steps.iter_mut().zip(high).zip(low) {
            *step = u16::from_be_bytes([high, low]);
        }
        steps
    }

    /// Scales and minima in a panel's group.
    #[inline(always)]
    fn group(&self, cell: usize) -> (&[u8; PANEL], &[u8; PANEL]) {
        (
            &self.scales.as_chunks().0[cell],
            &self.minima.as_chunks().0[cell],
        )
    }

    /// Of some rows of a panel, from `first` on; the others have codes of zero.
    fn contexts(&self, columns: &Columns, first: usize, rows: usize) -> [Context; 2] {
        // Above any table, whatever the spread: the one after the last is for rows that are not there.
        let mut class = [2 * TABLES as u32; PANEL];
        let mut last = [TABLES as u32; PANEL];
        let mut magnitude = [0; PANEL];
        for r in 0..rows {
            let of_row = usize::from(self.classes[first + r]) % TABLES;
            class[r] = of_row as u32;
            last[r] = TABLES as u32 - 1;
            magnitude[r] = columns.magnitudes[of_row].into();
        }
        let (class, last, magnitude) = (fours(class), fours(last), fours(magnitude));
        [0, 1].map(|half| Context {
            class: class[half],
            magnitude: magnitude[half],
            last: last[half],
        })
    }
}
