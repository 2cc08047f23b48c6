//! How packed weights lie in memory: the layout the matrix kernels read, made once while loading.
//!
//! A matrix (rows, cols) is cut into panels of [`PANEL`] rows and groups of [`GROUP`] columns:
//!
//! ```text
//! w[r][c] = row_scales[r] · (scales[r][c / 32] · codes[r][c] + offsets[r][c / 32])
//! ```
//!
//! with codes 0..=15 ([`CodeWidth::Nibble`]), 0..=63 ([`CodeWidth::Six`]) or 0..=255 ([`CodeWidth::Byte`]), scales 0..=255, offsets i16.
//! Everything but the row scale is an integer, so a group's dot product with int8 activations is exact.

/// Rows a panel.
pub const PANEL: usize = 8;
/// Columns that share a scale and an offset, and in activations a scale.
pub const GROUP: usize = 32;

/// What codes there are, and how they lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeWidth {
    /// Two codes of 0..=15 a byte: the low nibble is for columns 8b..8b+4, the high one for 8b+4..8b+8.
    Nibble,
    /// One code of 0..=63 a byte: a quarter more memory than six bits need, but nothing to unpack, and products
    /// whose sums fit 16 bits.
    Six,
    /// One code of 0..=255 a byte.
    Byte,
}

impl CodeWidth {
    /// The largest code.
    pub const fn max_code(self) -> u8 {
        match self {
            Self::Nibble => 15,
            Self::Six => 63,
            Self::Byte => 255,
        }
    }

    /// Bytes of one panel's codes in one group.
    pub const fn group_bytes(self) -> usize {
        match self {
            Self::Nibble => PANEL * GROUP / 2,
            Self::Six | Self::Byte => PANEL * GROUP,
        }
    }

    /// Bytes of one cell: one panel's codes, scales and offsets of one group.
    pub const fn cell_bytes(self) -> usize {
        self.group_bytes() + PANEL * (size_of::<u8>() + size_of::<i16>())
    }

    /// Where the code of row `r` of the panel and column `c` of the group lies: byte and shift.
    pub const fn place(self, r: usize, c: usize) -> (usize, u32) {
        match self {
            Self::Nibble => ((c / 8) * 32 + r * 4 + c % 4, ((c / 4) % 2 * 4) as u32),
            Self::Six | Self::Byte => ((c / 4) * 32 + r * 4 + c % 4, 0),
        }
    }
}

/// Number of panels that hold `rows` rows.
pub const fn panels(rows: usize) -> usize {
    rows.div_ceil(PANEL)
}

/// A packed matrix, borrowed. Rows past `rows` in the last panel are padding whose scales and offsets are zero.
#[derive(Debug, Clone, Copy)]
pub struct PackedView<'a> {
    /// Bits a code.
    pub width: CodeWidth,
    /// Output dimension.
    pub rows: usize,
    /// Input dimension, a multiple of [`GROUP`].
    pub cols: usize,
    /// (panel, group, cell): the codes ([`CodeWidth::group_bytes`]), the rows' scales (8), their offsets (8, i16). One stream
    /// of memory, which processors fetch ahead better than three.
    pub cells: &'a [u8],
    /// (panel, row)
    pub row_scales: &'a [f32],
}

impl PackedView<'_> {
    /// Panics unless every slice has the length that `rows` and `cols` demand: what the kernels'
    /// raw reads rest on.
    pub(super) fn check(&self) {
        assert!(self.cols.is_multiple_of(GROUP), "columns");
        let cells = panels(self.rows) * (self.cols / GROUP);
        assert_eq!(self.cells.len(), cells * self.width.cell_bytes(), "cells");
        assert_eq!(
            self.row_scales.len(),
            panels(self.rows) * PANEL,
            "row scales"
        );
    }
}
