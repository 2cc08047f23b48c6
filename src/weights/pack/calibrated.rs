//! Rounding that knows a calibration text.

use super::rounding::{Nearest, Rounding, SourceMatrix};
use crate::error::Result;
use crate::int4::{CodeBits, HeadQuantizer, HeadStatistics, StoredRow};
use crate::weights::TensorRole;

/// Layers group by group, as [`Nearest`]; the embedding and the head with one step a row and, where they are multiplied
/// with hidden states, with error feedback.
#[derive(Debug)]
pub struct Calibrated {
    statistics: HeadStatistics,
    /// Whether the embedding is the head, too.
    tied: bool,
}

impl Calibrated {
    /// Rounding by what a text says about the model's head. `tied`: the embedding is the head, too.
    pub fn new(statistics: HeadStatistics, tied: bool) -> Self {
        Self { statistics, tied }
    }
}

impl Rounding for Calibrated {
    fn round(
        &mut self,
        matrix: &SourceMatrix,
        bits: CodeBits,
        take: &mut dyn FnMut(StoredRow) -> Result<()>,
    ) -> Result<()> {
        let multiplied = match matrix.role() {
            // Codes of the source's own are kept everywhere.
            _ if matrix.is_affine() => return Nearest.round(matrix, bits, take),
            TensorRole::Output => true,
            TensorRole::TokenEmbedding => self.tied,
            _ => return Nearest.round(matrix, bits, take),
        };
        let mut squares = 0.0;
        for row in 0..matrix.rows() {
            let row = matrix.floats(row)?;
            squares += row
                .iter()
                .map(|&w| f64::from(w) * f64::from(w))
                .sum::<f64>();
        }
        let mean_square = squares / (matrix.rows() * matrix.cols()).max(1) as f64;
        let quantizer = HeadQuantizer::new(&self.statistics, mean_square, multiplied)?;
        for row in 0..matrix.rows() {
            take(quantizer.round(row, &matrix.floats(row)?))?;
        }
        Ok(())
    }
}
