//! Tensors of a file as matrices of the model: the choice of form, and rows stacked into one operator.

use super::Precision;
use crate::error::Result;
use crate::int4::{Linear, PackedMatrix, affine_row, allocate, float_row, reserve};
use crate::kernels::CodeWidth;
use crate::weights::TensorInfo;
use candle_core::quantized::GgmlDType;

/// How a matrix is held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Float,
    Packed(CodeWidth),
}

impl Form {
    /// That of a file's tensor.
    pub fn of(dtype: GgmlDType, precision: Precision) -> Self {
        match format(dtype, precision) {
            Format::Float => Self::Float,
            Format::Affine => Self::Packed(CodeWidth::Nibble),
            Format::Bytes => Self::Packed(CodeWidth::Byte),
        }
    }

    /// Several in one operator: forms that differ meet in the wider one, which loses nothing of codes.
    pub fn stacked(parts: impl IntoIterator<Item = Self> + Clone) -> Self {
        if parts.clone().into_iter().all(|form| form == Self::Float) {
            return Self::Float;
        }
        let widths = parts.into_iter().map(|form| match form {
            Self::Packed(width) => width,
            Self::Float => CodeWidth::Byte,
        });
        let width = widths.max_by_key(|width| width.max_code());
        Self::Packed(width.unwrap_or(CodeWidth::Byte))
    }

    /// Bytes of a matrix in memory.
    pub fn bytes(self, rows: usize, cols: usize) -> u64 {
        match self {
            Self::Float => (size_of::<f32>() * cols) as u64 * rows as u64,
            Self::Packed(width) => PackedMatrix::bytes_of(width, rows, cols),
        }
    }

    /// A matrix of zeros.
    pub fn zeros(self, rows: usize, cols: usize) -> Result<Matrix> {
        Ok(match self {
            Self::Float => Matrix::Dense {
                weights: allocate(rows * cols)?,
                rows,
                cols,
            },
            Self::Packed(width) => Matrix::Packed(PackedMatrix::zeros(width, rows, cols)?),
        })
    }

    pub fn quantization(self) -> &'static str {
        match self {
            Self::Float => "float32",
            Self::Packed(CodeWidth::Nibble) => "int4",
            Self::Packed(_) => "int8",
        }
    }
}

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
        let (rows, cols, row_bytes) = info.matrix_layout(data.len())?;
        let place = |row: usize| info.natural_row(row);
        match format(info.dtype, precision) {
            Format::Float => {
                let mut weights = allocate(rows * cols)?;
                for (row, bytes) in data.chunks_exact(row_bytes).enumerate() {
                    let to = &mut weights[place(row) * cols..][..cols];
                    to.copy_from_slice(&info.floats(bytes)?);
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
                    let (scale, groups) = affine_row(&info.affine_blocks(bytes)?);
                    packed.set_row(place(row), scale, &groups);
                }
                Ok(Self::Packed(packed))
            }
            Format::Bytes => {
                let mut packed = PackedMatrix::zeros(CodeWidth::Byte, rows, cols)?;
                for (chunk, bytes) in data.chunks(CHUNK_ROWS * row_bytes).enumerate() {
                    for (i, row) in info.floats(bytes)?.chunks_exact(cols).enumerate() {
                        let (scale, groups) = float_row(row, CodeWidth::Byte);
                        packed.set_row(place(chunk * CHUNK_ROWS + i), scale, &groups);
                    }
                }
                Ok(Self::Packed(packed))
            }
        }
    }

    /// One matrix of all rows, in order, in the form of [`Form::stacked`].
    pub fn stack(parts: Vec<Self>) -> Result<Self> {
        let cols = parts.iter().map(Self::cols).next().unwrap_or(0);
        let rows = parts.iter().map(Self::rows).sum();
        let Form::Packed(width) = Form::stacked(parts.iter().map(Self::form)) else {
            let mut weights = reserve(rows * cols)?;
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

    pub fn form(&self) -> Form {
        match self {
            Self::Dense { .. } => Form::Float,
            Self::Packed(m) => Form::Packed(m.width()),
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
    info.floats(data)
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
