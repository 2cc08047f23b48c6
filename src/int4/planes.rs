//! A stored matrix, everything of one kind together, and its way into the kernels' layout: a whole model goes through
//! here while a visitor waits.

use super::packed::{PackedMatrix, PanelGroup};
use super::stored::CodeBits;
use crate::error::{Error, Result};
use crate::kernels::{GROUP, PANEL};

/// The numbers of [`StoredRow`](super::StoredRow)s, by kind. All are little-endian.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// Of the codes.
    pub bits: CodeBits,
    /// Output dimension.
    pub rows: usize,
    /// Input dimension, a multiple of 32.
    pub cols: usize,
    /// The codes' upper four bits, two a byte, the even column's below; (rows, cols).
    pub high: &'a [u8],
    /// Their other bits, if any, from the lowest bit of a byte up; (rows, cols).
    pub low: &'a [u8],
    /// u8; (rows, cols / 32).
    pub scales: &'a [u8],
    /// i8; (rows, cols / 32).
    pub minima: &'a [u8],
    /// u16, the row's minimum step; (rows).
    pub steps: &'a [u8],
    /// f32, the row's scale; (rows).
    pub row_scales: &'a [u8],
}

impl Planes<'_> {
    /// The matrix in the kernels' layout.
    ///
    /// # Errors
    /// `not_a_model` for a row whose numbers the kernels cannot hold, `out_of_memory`.
    ///
    /// # Panics
    /// Where a plane has not the length that rows and columns demand.
    pub fn unpack(&self) -> Result<PackedMatrix> {
        let per_row = self.cols / GROUP;
        let groups = self.rows * per_row;
        let low_bits = self.bits.bits() - 4;
        assert_eq!(self.high.len(), groups * HIGH_BYTES, "high bits");
        assert_eq!(self.low.len(), groups * low_bytes(low_bits), "low bits");
        assert_eq!(self.scales.len(), groups, "scales");
        assert_eq!(self.minima.len(), groups, "minima");
        assert_eq!(self.steps.len(), 2 * self.rows, "steps");
        assert_eq!(self.row_scales.len(), 4 * self.rows, "row scales");

        let mut matrix = PackedMatrix::zeros(self.bits.width(), self.rows, self.cols)?;
        for (row, &scale) in self.row_scales.as_chunks().0.iter().enumerate() {
            let scale = f32::from_le_bytes(scale);
            if !(scale.is_finite() && scale >= 0.0) {
                return Err(Error::not_a_model(format!(
                    "row {row}: {scale} is no scale"
                )));
            }
            matrix.set_row_scale(row, scale);
        }
        for panel in 0..self.rows.div_ceil(PANEL) {
            let rows = panel * PANEL..self.rows.min((panel + 1) * PANEL);
            for g in 0..per_row {
                let mut to = matrix.panel_group(panel, g);
                for (r, row) in rows.clone().enumerate() {
                    self.group(row, row * per_row + g, r, &mut to)?;
                }
            }
        }
        Ok(matrix)
    }

    /// Writes group `g` of all groups, one of row `row`, as row `r` of its panel.
    fn group(&self, row: usize, g: usize, r: usize, to: &mut PanelGroup) -> Result<()> {
        let [low_byte, high_byte] = self.steps.as_chunks().0[row];
        let step = u16::from_le_bytes([low_byte, high_byte]);
        let (scale, minimum) = (self.scales[g], self.minima[g] as i8);
        to.scales[r] = scale;
        to.offsets[r] = self
            .bits
            .offset(scale, minimum, step)
            .ok_or_else(|| Error::not_a_model(format!("row {row}: a minimum is out of range")))?;
        let high = self.high[g * HIGH_BYTES..].first_chunk().expect("a group");
        match self.bits {
            CodeBits::Four => nibbles(high, r, to.codes),
            CodeBits::Five => bytes::<1>(high, &self.low[g * low_bytes(1)..], r, to.codes),
            CodeBits::Six => bytes::<2>(high, &self.low[g * low_bytes(2)..], r, to.codes),
            CodeBits::Eight => bytes::<4>(high, &self.low[g * low_bytes(4)..], r, to.codes),
        }
        Ok(())
    }
}

/// Bytes of the upper four bits of one group.
const HIGH_BYTES: usize = GROUP / 2;

/// Bytes of the lower bits of one group.
pub const fn low_bytes(low_bits: u32) -> usize {
    GROUP * low_bits as usize / 8
}

/// Four nibbles as the low halves of four bytes.
const fn spread(nibbles: u32) -> u32 {
    let pairs = (nibbles | nibbles << 8) & 0x00ff_00ff;
    (pairs | pairs << 4) & 0x0f0f_0f0f
}

/// 4-bit codes: eight columns are one word in the planes and one in the panel, in another order
/// ([`CodeWidth::place`](crate::kernels::CodeWidth::place)).
fn nibbles(high: &[u8; HIGH_BYTES], r: usize, codes: &mut [u8]) {
    for (word, to) in high
        .as_chunks()
        .0
        .iter()
        .zip(codes.chunks_exact_mut(4 * PANEL))
    {
        let word = u32::from_le_bytes(*word);
        let ordered = spread(word & 0xffff) | spread(word >> 16) << 4;
        to[4 * r..][..4].copy_from_slice(&ordered.to_le_bytes());
    }
}

/// Wider codes, a byte each: four columns are one word in the panel.
fn bytes<const LOW_BITS: u32>(high: &[u8; HIGH_BYTES], low: &[u8], r: usize, codes: &mut [u8]) {
    let low: &[u8] = &low[..low_bytes(LOW_BITS)];
    for (quad, (half, to)) in high
        .as_chunks()
        .0
        .iter()
        .zip(codes.chunks_exact_mut(4 * PANEL))
        .enumerate()
    {
        let code =
            spread(u16::from_le_bytes(*half).into()) << LOW_BITS | lower::<LOW_BITS>(low, quad);
        to[4 * r..][..4].copy_from_slice(&code.to_le_bytes());
    }
}

/// The lower bits of four columns, in the low ends of four bytes.
fn lower<const LOW_BITS: u32>(low: &[u8], quad: usize) -> u32 {
    match LOW_BITS {
        // Each bit is moved to its byte by one of the multiplier's.
        1 => {
            let four = u32::from(low[quad / 2]) >> (quad % 2 * 4) & 15;
            (four * 0x0020_4081) & 0x0101_0101
        }
        2 => {
            let four = u32::from(low[quad]);
            let pairs = (four | four << 12) & 0x000f_000f;
            (pairs | pairs << 6) & 0x0303_0303
        }
        _ => spread(u16::from_le_bytes([low[2 * quad], low[2 * quad + 1]]).into()),
    }
}
