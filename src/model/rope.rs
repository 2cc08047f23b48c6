//! The angles of rotary position embedding (Su et al. 2021).

use crate::config::ModelConfig;

/// Cosine and sine of `position · θ^(-2i / head_dim)` for the positions of one pass.
///
/// Frequencies and angles are rounded to f32 as Hugging Face's `LlamaRotaryEmbedding` rounds them; `libm` gives the
/// same bits on every platform.
#[derive(Debug)]
pub(super) struct Rope {
    half: usize,
    /// (tokens, head_dim / 2)
    cos: Vec<f32>,
    /// (tokens, head_dim / 2)
    sin: Vec<f32>,
}

impl Rope {
    pub fn new(config: &ModelConfig, start: usize, tokens: usize) -> Self {
        let half = config.head_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| {
                let exponent = (2 * i) as f64 / config.head_dim as f64;
                (1.0 / libm::pow(f64::from(config.rope_theta), exponent)) as f32
            })
            .collect();
        let angles = || {
            let positions = start..start + tokens;
            positions.flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)))
        };
        Self {
            half,
            cos: angles().map(|a| libm::cos(a) as f32).collect(),
            sin: angles().map(|a| libm::sin(a) as f32).collect(),
        }
    }

    /// Cosines and sines of the pass's token `t`.
    pub fn at(&self, t: usize) -> (&[f32], &[f32]) {
        let range = t * self.half..(t + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}
