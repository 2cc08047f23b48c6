//! Makes a pack's tensors from those of any model.

use super::manifest::{Encoding, TensorEntry};
use super::rounding::{Nearest, Rounding, SourceMatrix};
use crate::error::Result;
use crate::int4::{self, CodeBits, GROUP, PackedMatrix};
use crate::weights::safetensors::NAMES;
use crate::weights::{TensorInfo, TensorRole, TensorSink};
use sha2::{Digest, Sha256};

/// Which encodings a pack's matrices get. Vectors stay floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFormat {
    /// Of the layers' matrices. Q4_0 and Q4_1 sources keep their own 4-bit grid, whatever this says.
    pub layers: CodeBits,
    /// Of the embedding and the head.
    pub embedding: CodeBits,
}

impl PackFormat {
    /// Four bits, and six for the embedding, of which entropy coding leaves what the width of its steps asks for.
    pub const INT4: Self = Self {
        layers: CodeBits::Four,
        embedding: CodeBits::Six,
    };
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorReport {
    /// Hugging Face's name.
    pub name: String,
    /// How it is stored.
    pub encoding: Encoding,
    /// Weights in it.
    pub elements: u64,
    /// Bytes in the shards.
    pub bytes: u64,
    /// Root of the squared error over the squared weights, both summed over the tensor.
    pub relative_error: f64,
    /// The [`digest`] of the matrix in memory; `None` for vectors, which are stored as they are.
    pub digest: Option<[u8; 32]>,
}

/// Quantizes the tensors that it is given and hands their bytes to `output`, tensor after tensor.
pub struct PackWriter<F, R = Nearest> {
    format: PackFormat,
    rounding: R,
    output: F,
    entries: Vec<TensorEntry>,
    reports: Vec<TensorReport>,
}

impl<F: FnMut(&[u8]) -> Result<()>, R: Rounding> PackWriter<F, R> {
    /// A writer into `output` of what `rounding` makes of each matrix.
    pub fn new(format: PackFormat, rounding: R, output: F) -> Self {
        Self {
            format,
            rounding,
            output,
            entries: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// The manifest's table, and what became of each tensor in it.
    pub fn finish(self) -> (Vec<TensorEntry>, Vec<TensorReport>) {
        (self.entries, self.reports)
    }

    fn matrix(&mut self, matrix: &SourceMatrix) -> Result<Stored> {
        let bits = match matrix.role() {
            _ if matrix.is_affine() => CodeBits::Four,
            TensorRole::TokenEmbedding | TensorRole::Output => self.format.embedding,
            _ => self.format.layers,
        };
        let mut stored = Vec::with_capacity(matrix.rows());
        let mut error = SquaredError::default();
        let mut digest = RowDigest::default();
        let mut values = vec![0.0; matrix.cols()];
        self.rounding.round(matrix, bits, &mut |row| {
            row.dequantize(bits, &mut values);
            error.add(&matrix.floats(stored.len())?, &values);
            digest.add(&values);
            stored.push(row);
            Ok(())
        })?;
        assert_eq!(stored.len(), matrix.rows(), "a rounding lost rows");
        Ok(Stored {
            encoding: Encoding::of(bits),
            bytes: int4::encode(bits, matrix.cols(), &stored),
            error,
            digest: Some(digest.finish()),
        })
    }
}

impl<F: FnMut(&[u8]) -> Result<()>, R: Rounding> TensorSink for PackWriter<F, R> {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        let stored = if info.shape.len() < 2 {
            let values = info.floats(data)?;
            Stored {
                encoding: Encoding::F32,
                bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                error: SquaredError::default(),
                digest: None,
            }
        } else {
            self.matrix(&SourceMatrix::new(info, data)?)?
        };
        let name = NAMES.name_of(info.role);
        (self.output)(&stored.bytes)?;
        let bytes = stored.bytes.len() as u64;
        self.reports.push(TensorReport {
            name: name.clone(),
            encoding: stored.encoding,
            elements: info.shape.iter().map(|&n| n as u64).product(),
            bytes,
            relative_error: stored.error.relative(),
            digest: stored.digest,
        });
        self.entries.push(TensorEntry {
            name,
            shape: info.shape.clone(),
            encoding: stored.encoding,
            bytes,
        });
        Ok(())
    }
}

/// A tensor's bytes in the pack.
struct Stored {
    encoding: Encoding,
    bytes: Vec<u8>,
    error: SquaredError,
    digest: Option<[u8; 32]>,
}

/// A hash over the values of a packed matrix, the same wherever the same numbers come out.
pub fn digest(matrix: &PackedMatrix) -> [u8; 32] {
    let mut digest = RowDigest::default();
    let mut values = vec![0.0; matrix.cols()];
    for row in 0..matrix.rows() {
        matrix.dequantize_row(row, &mut values);
        digest.add(&values);
    }
    digest.finish()
}

#[derive(Default)]
struct RowDigest(Sha256);

impl RowDigest {
    fn add(&mut self, row: &[f32]) {
        for group in row.as_chunks::<GROUP>().0 {
            let mut bytes = [0; 4 * GROUP];
            for (to, x) in bytes.as_chunks_mut().0.iter_mut().zip(group) {
                *to = x.to_le_bytes();
            }
            self.0.update(bytes);
        }
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Squared errors and squared weights, in f64.
#[derive(Debug, Clone, Copy, Default)]
struct SquaredError {
    error: f64,
    weight: f64,
}

impl SquaredError {
    fn add(&mut self, weights: &[f32], stored: &[f32]) {
        for (w, s) in weights.iter().zip(stored) {
            let off = f64::from(w - s);
            self.error += off * off;
            self.weight += f64::from(*w) * f64::from(*w);
        }
    }

    fn relative(self) -> f64 {
        if self.weight == 0.0 {
            0.0
        } else {
            (self.error / self.weight).sqrt()
        }
    }
}
