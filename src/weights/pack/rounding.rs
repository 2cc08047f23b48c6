//! The choice of codes: where calibrated rounding takes the place of rounding each row by itself.

use crate::error::{Error, Result};
use crate::int4::{CodeBits, GROUP, StoredRow};
use crate::weights::safetensors::NAMES;
use crate::weights::{TensorInfo, TensorRole};

/// Decides which codes stand for a matrix's weights.
pub trait Rounding {
    /// Hands the rows of `matrix`, each of `cols / 32` groups with codes of `bits`, to `take`, in order.
    ///
    /// # Errors
    /// Those of [`SourceMatrix::floats`] and of `take`.
    fn round(
        &mut self,
        matrix: &SourceMatrix,
        bits: CodeBits,
        take: &mut dyn FnMut(StoredRow) -> Result<()>,
    ) -> Result<()>;
}

/// Every group by itself: a source's own 4-bit codes as they are, floats to the nearest code of the grid that least
/// squares finds for them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nearest;

impl Rounding for Nearest {
    fn round(
        &mut self,
        matrix: &SourceMatrix,
        bits: CodeBits,
        take: &mut dyn FnMut(StoredRow) -> Result<()>,
    ) -> Result<()> {
        for row in 0..matrix.rows() {
            take(match matrix.affine(row)? {
                Some(blocks) => StoredRow::from_affine(&blocks),
                None => StoredRow::from_floats(&matrix.floats(row)?, bits),
            })?;
        }
        Ok(())
    }
}

/// A matrix (rows, cols) as its file has it, its rows in Hugging Face's order.
#[derive(Debug)]
pub struct SourceMatrix<'a> {
    info: &'a TensorInfo,
    data: &'a [u8],
    cols: usize,
    row_bytes: usize,
    /// Which row of the file stands at each place of Hugging Face's order.
    file_rows: Vec<usize>,
}

impl<'a> SourceMatrix<'a> {
    /// The matrix whose bytes `data` are.
    ///
    /// # Errors
    /// `not_a_model` where they are not as many as the shape demands, `invalid_argument` where rows are not made of
    /// groups of 32.
    pub fn new(info: &'a TensorInfo, data: &'a [u8]) -> Result<Self> {
        let (rows, cols, row_bytes) = info.matrix_layout(data.len())?;
        if !cols.is_multiple_of(GROUP) {
            return Err(Error::invalid_argument(format!(
                "tensor {}: rows of {cols} weights are not made of groups of {GROUP}",
                info.name
            )));
        }
        let mut file_rows = vec![0; rows];
        for row in 0..rows {
            file_rows[info.natural_row(row)] = row;
        }
        Ok(Self {
            info,
            data,
            cols,
            row_bytes,
            file_rows,
        })
    }

    /// Hugging Face's name.
    pub fn name(&self) -> String {
        NAMES.name_of(self.info.role)
    }

    /// What it is to the model.
    pub fn role(&self) -> TensorRole {
        self.info.role
    }

    /// Output dimension.
    pub fn rows(&self) -> usize {
        self.file_rows.len()
    }

    /// Input dimension, a multiple of 32.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The weights of a row; (cols).
    ///
    /// # Errors
    /// `not_a_model` for weights that are not finite.
    pub fn floats(&self, row: usize) -> Result<Vec<f32>> {
        self.info.floats(self.bytes(row))
    }

    /// Whether the source has 4-bit codes of its own (Q4_0, Q4_1), which are better kept than quantized again.
    pub fn is_affine(&self) -> bool {
        self.info.is_affine()
    }

    /// The source's own 4-bit codes of a row, where it has such: (step, minimum, codes) of each group.
    ///
    /// # Errors
    /// `not_a_model` for steps and minima that are not finite.
    #[expect(clippy::type_complexity, reason = "what StoredRow::from_affine takes")]
    pub fn affine(&self, row: usize) -> Result<Option<Vec<(f32, f32, [u8; GROUP])>>> {
        if !self.is_affine() {
            return Ok(None);
        }
        self.info.affine_blocks(self.bytes(row)).map(Some)
    }

    fn bytes(&self, row: usize) -> &[u8] {
        &self.data[self.file_rows[row] * self.row_bytes..][..self.row_bytes]
    }
}
