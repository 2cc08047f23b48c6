//! Tensors of a file as matrices of the model: the choice of format, and rows stacked into one operator.

use super::Precision;
use crate::error::{Error, ErrorKind, Result};
use crate::int4::{Linear, PackedMatrix, affine_row, float_row};
use crate::kernels::{CodeWidth, GROUP};
use crate::weights::{RowOrder, TensorInfo};
use candle_core::quantized::GgmlDType;
use half::{bf16, f16};
use std::borrow::Cow;

/// A matrix (rows, cols), as it was read.
#[derive(Debug)]
pub(super) enum Matrix {
    Dense {
        weights: Vec<f32>,
        rows: usize,
        cols: usize,
    },
    Packed(PackedMatrix),
}

/// Rows that are dequantized at once, so that no tensor ever stands in memory as floats.
const CHUNK_ROWS: usize = 32;

impl Matrix {
    /// Reads a two-dimensional tensor, its rows put into Hugging Face's order.
    pub fn read(info: &TensorInfo, data: &[u8], precision: Precision) -> Result<Self> {
        let &[rows, cols] = &info.shape[..] else {
            return Err(Error::not_a_model(format!(
                "tensor {}: expected a matrix, found {} dimensions",
                info.name,
                info.shape.len()
            )));
        };
        let row_bytes = cols / info.dtype.block_size() * info.dtype.type_size();
        if data.len() != rows * row_bytes {
            return Err(Error::not_a_model(format!(
                "tensor {}: expected {} bytes, found {}",
                info.name,
                rows * row_bytes,
                data.len()
            )));
        }
        let place = |row: usize| natural_row(info.row_order, rows, row);
        match format(info.dtype, precision) {
            Format::Float => {
                let mut weights = vec![0.0; rows * cols];
                for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
                    let to = &mut weights[place(row) * cols..][..cols];
                    to.copy_from_slice(&floats(info, bytes)?);
                }
                Ok(Self::Dense {
                    weights,
                    rows,
                    cols,
                })
            }
            Format::Affine => {
                let mut packed = PackedMatrix::zeros(CodeWidth::Nibble, rows, cols)?;
                for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
                    let (scale, groups) = affine_row(&blocks(info.dtype, bytes));
                    packed.set_row(place(row), scale, &groups);
                }
                Ok(Self::Packed(packed))
            }
            Format::Bytes => {
                let mut packed = PackedMatrix::zeros(CodeWidth::Byte, rows, cols)?;
                for (chunk, bytes) in data.chunks(CHUNK_ROWS * row_bytes).enumerate() {
                    for (i, row) in floats(info, bytes)?.chunks_exact(cols).enumerate() {
                        let (scale, groups) = float_row(row, CodeWidth::Byte);
                        packed.set_row(place(chunk * CHUNK_ROWS + i), scale, &groups);
                    }
                }
                Ok(Self::Packed(packed))
            }
        }
    }

    /// One matrix of all rows, in order. Formats that differ meet in the wider one, which loses nothing of codes.
    pub fn stack(parts: Vec<Self>) -> Result<Self> {
        let cols = parts.iter().map(Self::cols).next().unwrap_or(0);
        let rows = parts.iter().map(Self::rows).sum();
        if parts.iter().all(|p| matches!(p, Self::Dense { .. })) {
            let mut weights = Vec::with_capacity(rows * cols);
            for part in parts {
                if let Self::Dense { weights: more, .. } = part {
                    weights.extend(more);
                }
            }
            return Ok(Self::Dense {
                weights,
                rows,
                cols,
            });
        }
        let nibbles = |p: &Self| matches!(p, Self::Packed(m) if m.width() == CodeWidth::Nibble);
        let width = if parts.iter().all(nibbles) {
            CodeWidth::Nibble
        } else {
            CodeWidth::Byte
        };
        let mut packed = PackedMatrix::zeros(width, rows, cols)?;
        let mut first = 0;
        for part in parts {
            let rows = part.rows();
            match part {
                Self::Packed(m) => packed.set_rows(first, &m),
                Self::Dense { weights, .. } => {
                    for (i, row) in weights.chunks_exact(cols).enumerate() {
                        let (scale, groups) = float_row(row, width);
                        packed.set_row(first + i, scale, &groups);
                    }
                }
            }
            first += rows;
        }
        Ok(Self::Packed(packed))
    }

    pub fn into_linear(self) -> Result<Linear> {
        match self {
            Self::Dense {
                weights,
                rows,
                cols,
            } => Linear::dense(weights, rows, cols),
            Self::Packed(m) => Linear::packed(m),
        }
    }

    pub fn quantization(&self) -> &'static str {
        match self {
            Self::Dense { .. } => "float32",
            Self::Packed(m) if m.width() == CodeWidth::Nibble => "int4",
            Self::Packed(_) => "int8",
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Dense { rows, .. } => *rows,
            Self::Packed(m) => m.rows(),
        }
    }

    fn cols(&self) -> usize {
        match self {
            Self::Dense { cols, .. } => *cols,
            Self::Packed(m) => m.cols(),
        }
    }
}

/// Reads a one-dimensional tensor.
pub(super) fn read_vector(info: &TensorInfo, data: &[u8]) -> Result<Vec<f32>> {
    floats(info, data)
}

enum Format {
    Float,
    Affine,
    Bytes,
}

fn format(dtype: GgmlDType, precision: Precision) -> Format {
    match dtype {
        GgmlDType::Q4_0 | GgmlDType::Q4_1 => Format::Affine,
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 if precision == Precision::Source => {
            Format::Float
        }
        _ => Format::Bytes,
    }
}

/// Where row `row` of the file stands in Hugging Face's order.
fn natural_row(order: RowOrder, rows: usize, row: usize) -> usize {
    match order {
        RowOrder::Natural => row,
        RowOrder::GgufRope { heads } => {
            let head_dim = rows / heads;
            let (head, i) = (row / head_dim, row % head_dim);
            head * head_dim + i % 2 * (head_dim / 2) + i / 2
        }
    }
}

/// Q4_0 and Q4_1 blocks as (step, minimum, codes). In both, byte i of the codes holds weight i in its low and weight
/// i + 16 in its high nibble (ggml-common.h, `block_q4_0`, `block_q4_1`).
fn blocks(dtype: GgmlDType, bytes: &[u8]) -> Vec<(f32, f32, [u8; GROUP])> {
    let float = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
    bytes
        .chunks_exact(dtype.type_size())
        .map(|block| {
            let step = float(block);
            let (minimum, codes) = match dtype {
                GgmlDType::Q4_1 => (float(&block[2..]), &block[4..]),
                _ => (-8.0 * step, &block[2..]),
            };
            let code = |i: usize| {
                if i < 16 {
                    codes[i] & 15
                } else {
                    codes[i - 16] >> 4
                }
            };
            (step, minimum, std::array::from_fn(code))
        })
        .collect()
}

/// Elements of any type as floats.
fn floats(info: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>> {
    let values: Vec<f32> = match info.dtype {
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
        quantized => {
            let n = bytes.len() / quantized.type_size() * quantized.block_size();
            let storage = quantized.from_data(Cow::Borrowed(bytes)).dequantize(n)?;
            storage.as_slice::<f32>()?.to_vec()
        }
    };
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::new(
            ErrorKind::NotAModel,
            format!("tensor {}: weight {i} of a row is not finite", info.name),
        ));
    }
    Ok(values)
}
