//! The one seam between weights and model: a linear operator, packed or float, behind Candle's `QMatMul`.

use super::packed::PackedMatrix;
use crate::error::Result;
use crate::kernels::{Activations, dense_matmul, packed_matmul};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor, QuantizedType};
use candle_core::{CpuStorage, Module, Tensor};
use half::f16;
use std::cell::RefCell;
use std::sync::Arc;
use twox_hash::XxHash64;

/// `y = x · Wᵀ` with W (out, in); also the embedding table of a tied model, whose rows are looked up.
#[derive(Debug, Clone)]
pub struct Linear {
    matmul: QMatMul,
    /// The same weights that `matmul` multiplies with.
    weights: Weights,
    out: usize,
    bytes: usize,
}

#[derive(Debug, Clone)]
enum Weights {
    Packed(Arc<PackedMatrix>),
    Dense(Arc<Vec<f32>>),
}

impl Linear {
    /// Integer weights, multiplied with int8 activations.
    pub fn packed(weights: PackedMatrix) -> Result<Self> {
        let (out, bytes) = (weights.rows(), weights.bytes());
        let shape = (out, weights.cols());
        let weights = Arc::new(weights);
        let operator = Packed(Arc::clone(&weights));
        Self::new(
            Box::new(operator),
            Weights::Packed(weights),
            shape,
            out,
            bytes,
        )
    }

    /// Float weights (out, in), row-major, multiplied with float activations.
    pub fn dense(weights: Vec<f32>, out: usize, cols: usize) -> Result<Self> {
        let bytes = 4 * weights.len();
        let weights = Arc::new(weights);
        let operator = Dense {
            weights: Arc::clone(&weights),
            cols,
        };
        Self::new(
            Box::new(operator),
            Weights::Dense(weights),
            (out, cols),
            out,
            bytes,
        )
    }

    fn new(
        operator: Box<dyn QuantizedType>,
        weights: Weights,
        shape: (usize, usize),
        out: usize,
        bytes: usize,
    ) -> Result<Self> {
        let tensor = Arc::new(QTensor::new(QStorage::Cpu(operator), shape)?);
        Ok(Self {
            matmul: QMatMul::QTensor(tensor),
            weights,
            out,
            bytes,
        })
    }

    /// x (tokens, in) → (tokens, out).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.matmul.forward(x)?)
    }

    /// Rows of W: ids (tokens) → (tokens, in).
    pub fn embedding(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.matmul.embedding(ids)?)
    }

    /// Output dimension.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells these weights from others: XXH64 of all of them as they lie in memory.
    pub fn checksum(&self) -> u64 {
        match &self.weights {
            Weights::Packed(matrix) => matrix.checksum(),
            Weights::Dense(weights) => {
                XxHash64::oneshot(self.out as u64, bytemuck::cast_slice(weights))
            }
        }
    }
}

/// Candle picks kernels of its own by this type on some processors; it has none for Q8_1, so ours run.
const REPORTED: GgmlDType = GgmlDType::Q8_1;

thread_local! {
    static ACTIVATIONS: RefCell<Activations> = RefCell::new(Activations::default());
}

struct Packed(Arc<PackedMatrix>);

impl QuantizedType for Packed {
    fn dtype(&self) -> GgmlDType {
        REPORTED
    }

    fn matmul_t(
        &self,
        (_, k, _): (usize, usize, usize),
        lhs: &[f32],
        dst: &mut [f32],
    ) -> candle_core::Result<()> {
        ACTIVATIONS.with_borrow_mut(|activations| {
            activations.quantize(lhs, k);
            packed_matmul(&self.0.view(), activations, dst);
        });
        Ok(())
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f16],
        dst: &mut [f16],
    ) -> candle_core::Result<()> {
        through_f32(self, mkn, lhs, dst)
    }

    fn embedding(
        &self,
        ids: &[u32],
        rows: usize,
        hidden: usize,
    ) -> candle_core::Result<CpuStorage> {
        look_up(ids, rows, hidden, |row, out| {
            self.0.dequantize_row(row, out)
        })
    }

    fn dequantize(&self, elem_count: usize) -> candle_core::Result<CpuStorage> {
        let mut out = vec![0.0; elem_count];
        for (row, out) in out.chunks_exact_mut(self.0.cols()).enumerate() {
            self.0.dequantize_row(row, out);
        }
        Ok(CpuStorage::F32(out))
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.0.cells().len()
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.cells().as_ptr()
    }

    fn block_size(&self) -> usize {
        crate::kernels::GROUP
    }

    fn from_float(&mut self, xs: &[f32]) {
        let (cols, width) = (self.0.cols(), self.0.width());
        for (row, xs) in xs.chunks_exact(cols).enumerate() {
            let (scale, groups) = super::float_row(xs, width);
            Arc::make_mut(&mut self.0).set_row(row, scale, &groups);
        }
    }

    fn from_float_imatrix(&mut self, xs: &[f32], _importance: &[f32], _n_per_row: usize) {
        self.from_float(xs);
    }

    fn size(&self) -> usize {
        self.0.bytes()
    }
}

struct Dense {
    weights: Arc<Vec<f32>>,
    cols: usize,
}

impl QuantizedType for Dense {
    fn dtype(&self) -> GgmlDType {
        REPORTED
    }

    fn matmul_t(
        &self,
        (_, k, _): (usize, usize, usize),
        lhs: &[f32],
        dst: &mut [f32],
    ) -> candle_core::Result<()> {
        dense_matmul(&self.weights, lhs, k, dst);
        Ok(())
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f16],
        dst: &mut [f16],
    ) -> candle_core::Result<()> {
        through_f32(self, mkn, lhs, dst)
    }

    fn embedding(
        &self,
        ids: &[u32],
        rows: usize,
        hidden: usize,
    ) -> candle_core::Result<CpuStorage> {
        look_up(ids, rows, hidden, |row, out| {
            out.copy_from_slice(&self.weights[row * self.cols..][..self.cols]);
        })
    }

    fn dequantize(&self, elem_count: usize) -> candle_core::Result<CpuStorage> {
        Ok(CpuStorage::F32(self.weights[..elem_count].to_vec()))
    }

    fn storage_size_in_bytes(&self) -> usize {
        size_of_val(self.weights.as_slice())
    }

    fn as_ptr(&self) -> *const u8 {
        self.weights.as_ptr().cast()
    }

    fn block_size(&self) -> usize {
        1
    }

    fn from_float(&mut self, xs: &[f32]) {
        Arc::make_mut(&mut self.weights).copy_from_slice(xs);
    }

    fn from_float_imatrix(&mut self, xs: &[f32], _importance: &[f32], _n_per_row: usize) {
        self.from_float(xs);
    }

    fn size(&self) -> usize {
        self.storage_size_in_bytes()
    }
}

fn look_up(
    ids: &[u32],
    rows: usize,
    hidden: usize,
    row: impl Fn(usize, &mut [f32]),
) -> candle_core::Result<CpuStorage> {
    let mut out = vec![0.0; ids.len() * hidden];
    for (&id, out) in ids.iter().zip(out.chunks_exact_mut(hidden)) {
        if id as usize >= rows {
            candle_core::bail!("embedding id {id} is out of range for {rows} rows")
        }
        row(id as usize, out);
    }
    Ok(CpuStorage::F32(out))
}

fn through_f32(
    weights: &dyn QuantizedType,
    mkn: (usize, usize, usize),
    lhs: &[f16],
    dst: &mut [f16],
) -> candle_core::Result<()> {
    let lhs: Vec<f32> = lhs.iter().map(|x| x.to_f32()).collect();
    let mut out = vec![0.0; dst.len()];
    weights.matmul_t(mkn, &lhs, &mut out)?;
    for (to, x) in dst.iter_mut().zip(out) {
        *to = f16::from_f32(x);
    }
    Ok(())
}
