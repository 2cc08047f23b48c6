//! RMSNorm (Zhang and Sennrich 2019).

use super::op::floats;
use crate::error::Result;
use crate::kernels;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

/// `y = x / sqrt(mean(x²) + eps) · weight`
#[derive(Debug)]
pub(super) struct RmsNorm {
    /// (hidden)
    pub weight: Vec<f32>,
    pub eps: f32,
}

impl RmsNorm {
    /// x (tokens, hidden) → (tokens, hidden)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.apply_op1_no_bwd(self)?)
    }
}

impl CustomOp1 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = floats(x, layout)?;
        let mut y = vec![0.0; x.len()];
        kernels::rms_norm(x, &self.weight, self.eps, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}
