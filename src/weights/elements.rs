//! What a tensor's bytes are as numbers.

use super::{RowOrder, TensorInfo};
use crate::error::{Error, Result};
use candle_core::quantized::GgmlDType;
use half::{bf16, f16};
use std::borrow::Cow;

/// Weights a block of Q4_0 or Q4_1.
const BLOCK: usize = 32;

impl TensorInfo {
    /// A matrix's (rows, columns, bytes a row), once `bytes` are known to be as many as these make.
    ///
    /// # Errors
    /// `not_a_model` for another number of dimensions or bytes.
    pub fn matrix_layout(&self, bytes: usize) -> Result<(usize, usize, usize)> {
        let &[rows, cols] = &self.shape[..] else {
            return Err(Error::not_a_model(format!(
                "tensor {}: expected a matrix, found {} dimensions",
                self.name,
                self.shape.len()
            )));
        };
        let row_bytes = cols / self.dtype.block_size() * self.dtype.type_size();
        if bytes != rows * row_bytes {
            return Err(Error::not_a_model(format!(
                "tensor {}: expected {} bytes, found {bytes}",
                self.name,
                rows * row_bytes
            )));
        }
        Ok((rows, cols, row_bytes))
    }

    /// Where row `row` of the file stands in Hugging Face's order.
    pub fn natural_row(&self, row: usize) -> usize {
        match self.row_order {
            RowOrder::Natural => row,
            RowOrder::GgufRope { heads } => {
                let head_dim = self.shape[0] / heads;
                let (head, i) = (row / head_dim, row % head_dim);
                head * head_dim + i % 2 * (head_dim / 2) + i / 2
            }
        }
    }

    /// Whether [`TensorInfo::affine_blocks`] can read the bytes.
    pub fn is_affine(&self) -> bool {
        matches!(self.dtype, GgmlDType::Q4_0 | GgmlDType::Q4_1)
    }

    /// Q4_0 and Q4_1 blocks as (step, minimum, codes). In both, byte i of the codes holds weight i in its low and
    /// weight i + 16 in its high nibble (ggml-common.h, `block_q4_0`, `block_q4_1`).
    ///
    /// # Errors
    /// `not_a_model` for steps and minima that are not finite.
    pub fn affine_blocks(&self, bytes: &[u8]) -> Result<Vec<(f32, f32, [u8; BLOCK])>> {
        let float = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
        bytes
            .chunks_exact(self.dtype.type_size())
            .enumerate()
            .map(|(index, block)| {
                let step = float(block);
                let (minimum, codes) = match self.dtype {
                    GgmlDType::Q4_1 => (float(&block[2..]), &block[4..]),
                    _ => (-8.0 * step, &block[2..]),
                };
                if !(step.is_finite() && minimum.is_finite()) {
                    return Err(Error::not_a_model(format!(
                        "tensor {}: block {index} of a row is not finite",
                        self.name
                    )));
                }
                let mut unpacked = [0; BLOCK];
                let (first, second) = unpacked.split_at_mut(BLOCK / 2);
                for ((first, second), byte) in first.iter_mut().zip(second).zip(codes) {
                    (*first, *second) = (byte & 15, byte >> 4);
                }
                Ok((step, minimum, unpacked))
            })
            .collect()
    }

    /// Elements of any type as floats.
    ///
    /// # Errors
    /// `not_a_model` for values that are not finite.
    pub fn floats(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        let values: Vec<f32> = match self.dtype {
            GgmlDType::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
            GgmlDType::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect(),
            GgmlDType::BF16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| bf16::from_le_bytes(b).to_f32())
                .collect(),
            // A block of 32 i8 behind an f16 step (ggml-common.h, `block_q8_0`), as Candle reads it, and quicker: it is
            // the embedding of many files.
            GgmlDType::Q8_0 => {
                let blocks = bytes.as_chunks::<{ 2 + BLOCK }>().0;
                let mut values = Vec::with_capacity(blocks.len() * BLOCK);
                for block in blocks {
                    let step = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    values.extend(block[2..].iter().map(|&q| f32::from(q as i8) * step));
                }
                values
            }
            quantized => {
                let n = bytes.len() / quantized.type_size() * quantized.block_size();
                let storage = quantized.from_data(Cow::Borrowed(bytes)).dequantize(n)?;
                storage.as_slice::<f32>()?.to_vec()
            }
        };
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::not_a_model(format!(
                "tensor {}: weight {i} of a row is not finite",
                self.name
            )));
        }
        Ok(values)
    }
}
