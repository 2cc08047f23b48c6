//! The feed-forward layer with SwiGLU (Shazeer 2020).

use super::op::floats;
use crate::error::Result;
use crate::int4::Linear;
use crate::kernels;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

#[derive(Debug)]
pub(super) struct Mlp {
    /// Gate over up: (2 · intermediate, hidden).
    pub gate_up: Linear,
    /// (hidden, intermediate)
    pub down: Linear,
}

impl Mlp {
    /// x (tokens, hidden) → (tokens, hidden)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.gate_up.forward(x)?;
        let h = h.apply_op1_no_bwd(&SiluMul)?;
        self.down.forward(&h)
    }

    pub fn bytes(&self) -> usize {
        self.gate_up.bytes() + self.down.bytes()
    }
}

/// (tokens, gate and up) → `silu(gate) · up` (tokens, intermediate)
struct SiluMul;

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (tokens, both) = layout.shape().dims2()?;
        let x = floats(x, layout)?;
        let mut y = vec![0.0; x.len() / 2];
        kernels::silu_mul(x, both / 2, &mut y);
        Ok((CpuStorage::F32(y), (tokens, both / 2).into()))
    }
}
