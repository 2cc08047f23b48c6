//! A packed matrix that owns its parts.

use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{CodeWidth, GROUP, PANEL, PackedView, panels};
use twox_hash::XxHash64;

/// 32 weights of one row: `w = row_scale · (scale · code + offset)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// At most [`CodeWidth::max_code`].
    pub codes: [u8; GROUP],
    /// In units of the row's scale.
    pub scale: u8,
    /// In units of the row's scale.
    pub offset: i16,
}

/// A matrix (rows, cols) of 4- or 8-bit codes in the kernels' layout ([`PackedView`]).
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    width: CodeWidth,
    rows: usize,
    cols: usize,
    cells: Vec<u8>,
    row_scales: Vec<f32>,
}

/// Some panels of a matrix, to be written.
pub(super) struct Panels<'a> {
    width: CodeWidth,
    /// Groups a row.
    groups: usize,
    cells: &'a mut [u8],
    /// (panel, row)
    pub row_scales: &'a mut [f32],
}

impl Panels<'_> {
    /// Group `g` of a panel.
    #[inline(always)]
    pub fn group(&mut self, panel: usize, g: usize) -> PanelGroup<'_> {
        PanelGroup::of(self.width, self.cells, panel * self.groups + g)
    }
}

/// One group of a panel of eight rows, to be written as the kernels read it ([`PackedView`]).
pub(super) struct PanelGroup<'a> {
    /// Places by [`CodeWidth::place`].
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u8; PANEL],
    /// i16 as bytes, since a cell is bytes.
    pub offsets: &'a mut [[u8; 2]; PANEL],
}

impl<'a> PanelGroup<'a> {
    /// A matrix's cell by its number.
    #[inline(always)]
    fn of(width: CodeWidth, cells: &'a mut [u8], cell: usize) -> Self {
        let bytes = width.cell_bytes();
        let (codes, rest) = cells[cell * bytes..][..bytes].split_at_mut(width.group_bytes());
        let (scales, offsets) = rest.split_first_chunk_mut().expect("a cell has scales");
        let offsets = offsets.as_chunks_mut().0;
        Self {
            codes,
            scales,
            offsets: offsets.try_into().expect("a cell has offsets"),
        }
    }
}

impl PackedMatrix {
    /// All zeros.
    ///
    /// # Errors
    /// `out_of_memory` where the matrix cannot be allocated.
    ///
    /// # Panics
    /// Where `cols` is no multiple of 32.
    pub fn zeros(width: CodeWidth, rows: usize, cols: usize) -> Result<Self> {
        assert!(cols.is_multiple_of(GROUP), "columns");
        let cells = panels(rows) * (cols / GROUP);
        Ok(Self {
            width,
            rows,
            cols,
            cells: allocate(cells * width.cell_bytes())?,
            row_scales: allocate(panels(rows) * PANEL)?,
        })
    }

    /// Output dimension.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input dimension.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bits a code.
    pub fn width(&self) -> CodeWidth {
        self.width
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.cells.len() + 4 * self.row_scales.len()
    }

    /// Bytes in memory of a matrix that is not there yet.
    pub fn bytes_of(width: CodeWidth, rows: usize, cols: usize) -> u64 {
        let panel = cols / GROUP * width.cell_bytes() + PANEL * size_of::<f32>();
        panels(rows) as u64 * panel as u64
    }

    /// Tells this matrix from others: XXH64 of shape, codes, scales and offsets as they lie in memory.
    pub fn checksum(&self) -> u64 {
        let shape = [
            self.width.max_code().into(),
            self.rows as u64,
            self.cols as u64,
        ];
        let shape = XxHash64::oneshot(0, bytemuck::cast_slice(&shape));
        let scales = XxHash64::oneshot(shape, bytemuck::cast_slice(&self.row_scales));
        XxHash64::oneshot(scales, &self.cells)
    }

    /// The unit of a row's scales and offsets.
    pub fn row_scale(&self, row: usize) -> f32 {
        assert!(row < self.rows, "row");
        self.row_scales[row]
    }

    /// The matrix as the kernels read it.
    pub fn view(&self) -> PackedView<'_> {
        PackedView {
            width: self.width,
            rows: self.rows,
            cols: self.cols,
            cells: &self.cells,
            row_scales: &self.row_scales,
        }
    }

    /// Codes, scales and offsets, for those who need one contiguous piece of it.
    pub(super) fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// Replaces a row by its scale and its groups, `cols / 32` of them.
    ///
    /// # Panics
    /// Where the row or the number of groups is not the matrix's.
    pub fn set_row(&mut self, row: usize, scale: f32, groups: &[Group]) {
        assert!(row < self.rows && groups.len() == self.cols / GROUP);
        self.row_scales[row] = scale;
        let (width, r) = (self.width, row % PANEL);
        for (g, group) in groups.iter().enumerate() {
            debug_assert!(group.codes.iter().all(|&code| code <= width.max_code()));
            let to = self.panel_group(row / PANEL, g);
            to.scales[r] = group.scale;
            to.offsets[r] = group.offset.to_ne_bytes();
            set_codes(width, &group.codes, r, to.codes);
        }
    }

    /// Group `g` of the panel that begins with row `8 · panel`.
    fn panel_group(&mut self, panel: usize, g: usize) -> PanelGroup<'_> {
        let cell = self.cell(panel * PANEL, g);
        PanelGroup::of(self.width, &mut self.cells, cell)
    }

    /// The matrix cut into pieces of so many panels, the last one perhaps of fewer.
    pub(super) fn pieces(&mut self, panels: usize) -> impl Iterator<Item = Panels<'_>> {
        let (width, groups) = (self.width, self.cols / GROUP);
        let cells = (self.cells).chunks_mut(panels * groups * width.cell_bytes());
        let row_scales = self.row_scales.chunks_mut(panels * PANEL);
        cells
            .zip(row_scales)
            .map(move |(cells, row_scales)| Panels {
                width,
                groups,
                cells,
                row_scales,
            })
    }

    /// Replaces the rows from `first` on by those of `from`, whose codes may be narrower.
    ///
    /// # Panics
    /// Where the rows do not fit, the columns differ, or the codes of `from` are wider.
    pub fn set_rows(&mut self, first: usize, from: &Self) {
        assert!(first + from.rows <= self.rows && from.cols == self.cols);
        assert!(from.width.max_code() <= self.width.max_code());
        let whole_panels = first.is_multiple_of(PANEL) && from.rows.is_multiple_of(PANEL);
        if whole_panels && from.width == self.width {
            // Panels lie one behind the other.
            let cell = first / PANEL * (self.cols / GROUP);
            copy_to(&mut self.cells, cell * self.width.cell_bytes(), &from.cells);
            copy_to(&mut self.row_scales, first, &from.row_scales);
            return;
        }
        for row in 0..from.rows {
            let groups: Vec<_> = (0..self.cols / GROUP).map(|g| from.group(row, g)).collect();
            self.set_row(first + row, from.row_scales[row], &groups);
        }
    }

    /// The float values of a row; `out` (cols).
    ///
    /// # Panics
    /// Where the row or the length is not the matrix's.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let row_scale = self.row_scales[row];
        for (g, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let group = self.group(row, g);
            for (w, code) in out.iter_mut().zip(group.codes) {
                let exact = i32::from(group.scale) * i32::from(code) + i32::from(group.offset);
                *w = row_scale * exact as f32;
            }
        }
    }

    /// Group `g` of a row.
    pub fn group(&self, row: usize, g: usize) -> Group {
        let cell = self.cell(row, g);
        let r = row % PANEL;
        let bytes = self.width.cell_bytes();
        let cell = &self.cells[cell * bytes..][..bytes];
        let (codes, rest) = cell.split_at(self.width.group_bytes());
        let (scales, offsets) = rest.split_at(PANEL);
        Group {
            codes: std::array::from_fn(|c| {
                let (byte, shift) = self.width.place(r, c);
                codes[byte] >> shift & self.width.max_code()
            }),
            scale: scales[r],
            offset: i16::from_ne_bytes(offsets.as_chunks().0[r]),
        }
    }

    /// Which (panel, group) holds group `g` of a row.
    fn cell(&self, row: usize, g: usize) -> usize {
        row / PANEL * (self.cols / GROUP) + g
    }
}

/// Writes 32 codes as row `r` of one panel's codes in one group, where [`CodeWidth::place`] says.
fn set_codes(width: CodeWidth, codes: &[u8; GROUP], r: usize, to: &mut [u8]) {
    let words = to.chunks_exact_mut(4 * PANEL);
    match width {
        CodeWidth::Nibble => {
            for (eight, words) in codes.as_chunks::<8>().0.iter().zip(words) {
                for (i, byte) in words[4 * r..][..4].iter_mut().enumerate() {
                    *byte = eight[i] | eight[4 + i] << 4;
                }
            }
        }
        CodeWidth::Six | CodeWidth::Byte => {
            for (four, words) in codes.as_chunks::<4>().0.iter().zip(words) {
                words[4 * r..][..4].copy_from_slice(four);
            }
        }
    }
}

fn copy_to<T: Copy>(to: &mut [T], at: usize, from: &[T]) {
    to[at..at + from.len()].copy_from_slice(from);
}

/// So many zeros.
///
/// # Errors
/// `out_of_memory`, where a plain `vec!` would end the program.
pub(crate) fn allocate<T: Clone + Default>(n: usize) -> Result<Vec<T>> {
    let mut v = reserve(n)?;
    v.resize(n, T::default());
    Ok(v)
}

/// Room for so many weights.
///
/// # Errors
/// As [`allocate`].
pub(crate) fn reserve<T>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|e| {
        let bytes = n.saturating_mul(size_of::<T>());
        Error::new(
            ErrorKind::OutOfMemory,
            format!("no memory for {bytes} bytes of weights"),
        )
        .caused_by(e)
    })?;
    Ok(v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_set() {
        for width in [CodeWidth::Nibble, CodeWidth::Six, CodeWidth::Byte] {
            for (rows, cols) in [(8, 64), (11, 96), (1, 32)] {
                let mut m = PackedMatrix::zeros(width, rows, cols).unwrap();
                let group = |r: usize, g: usize| Group {
                    codes: std::array::from_fn(|c| {
                        (7 * r + 5 * g + 3 * c) as u8 & width.max_code()
                    }),
                    scale: (17 * r + g) as u8,
                    offset: (r as i16 - 5) * 1000 + g as i16,
                };
                for r in 0..rows {
                    let groups: Vec<_> = (0..cols / GROUP).map(|g| group(r, g)).collect();
                    m.set_row(r, 0.5 + r as f32, &groups);
                }
                for r in 0..rows {
                    for g in 0..cols / GROUP {
                        assert_eq!(m.group(r, g), group(r, g), "{width:?} row {r} group {g}");
                    }
                }
            }
        }
    }
}
