//! A model from its tensors, as they come.

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::weights::{Matrix, read_vector};
use super::{Layer, Model, ModelId};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::int4::{Linear, PackedMatrix};
use crate::weights::{LayerPart, PackedInfo, TensorInfo, TensorRole, TensorSink};
use std::sync::OnceLock;

/// What becomes of float tensors. Quantized ones keep their grid (Q4_0, Q4_1) or become 8-bit codes (all others).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Floats stay floats.
    #[default]
    Source,
    /// Float matrices become 8-bit codes in groups of 32: a quarter of the memory.
    Int8,
}

/// Takes a model's tensors in any order; holds at most one layer's parts besides what is packed.
#[derive(Debug)]
pub struct ModelBuilder {
    config: ModelConfig,
    precision: Precision,
    embedding: Option<Linear>,
    head: Option<Linear>,
    norm: Option<Vec<f32>>,
    layers: Vec<Parts>,
    quantization: &'static str,
}

/// One layer under way. Matrices that are multiplied with the same input wait for each other, to be stacked.
#[derive(Debug, Default)]
struct Parts {
    attention_norm: Option<Vec<f32>>,
    q: Option<Matrix>,
    k: Option<Matrix>,
    v: Option<Matrix>,
    qkv: Option<Linear>,
    o: Option<Linear>,
    mlp_norm: Option<Vec<f32>>,
    gate: Option<Matrix>,
    up: Option<Matrix>,
    gate_up: Option<Linear>,
    down: Option<Linear>,
}

impl ModelBuilder {
    /// A builder for a model of `config`.
    pub fn new(config: ModelConfig, precision: Precision) -> Self {
        let layers = (0..config.num_hidden_layers)
            .map(|_| Parts::default())
            .collect();
        Self {
            config,
            precision,
            embedding: None,
            head: None,
            norm: None,
            layers,
            quantization: "float32",
        }
    }

    /// The model, once every tensor has come.
    ///
    /// # Errors
    /// `not_a_model` naming the first tensor that is missing.
    pub fn finish(self) -> Result<Model> {
        let config = self.config;
        let eps = config.rms_norm_eps;
        let norm = |weight: Option<Vec<f32>>, name: &str| {
            Ok::<_, Error>(RmsNorm {
                weight: need(weight, name)?,
                eps,
            })
        };
        let layers = self
            .layers
            .into_iter()
            .enumerate()
            .map(|(i, parts)| {
                let name = |part: &str| format!("{part} of layer {i}");
                Ok(Layer {
                    attention_norm: norm(parts.attention_norm, &name("attention norm"))?,
                    attention: Attention {
                        qkv: need(parts.qkv, &name("queries, keys or values"))?,
                        out: need(parts.o, &name("attention output"))?,
                        heads: config.num_attention_heads,
                        head_dim: config.head_dim,
                        rotary: !config.no_rope_layers.get(i).copied().unwrap_or(false),
                    },
                    mlp_norm: norm(parts.mlp_norm, &name("feed-forward norm"))?,
                    mlp: Mlp {
                        gate_up: need(parts.gate_up, &name("gate or up"))?,
                        down: need(parts.down, &name("down"))?,
                    },
                })
            })
            .collect::<Result<_>>()?;
        if !config.tie_word_embeddings && self.head.is_none() {
            return Err(missing("output head"));
        }
        Ok(Model {
            id: ModelId::next(),
            embedding: need(self.embedding, "token embedding")?,
            layers,
            norm: norm(self.norm, "output norm")?,
            head: self.head,
            quantization: self.quantization,
            digest: OnceLock::new(),
            config,
        })
    }
}

impl TensorSink for ModelBuilder {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        match info.role {
            TensorRole::OutputNorm => self.norm = Some(read_vector(info, data)?),
            TensorRole::Layer {
                index,
                part: LayerPart::AttnNorm,
            } => self.layer(index, &info.name)?.attention_norm = Some(read_vector(info, data)?),
            TensorRole::Layer {
                index,
                part: LayerPart::FfnNorm,
            } => self.layer(index, &info.name)?.mlp_norm = Some(read_vector(info, data)?),
            _ => {
                let matrix = Matrix::read(info, data, self.precision)?;
                self.matrix(info.role, &info.name, matrix)?;
            }
        }
        Ok(())
    }

    fn packed(&mut self, info: &PackedInfo, matrix: PackedMatrix) -> Result<()> {
        self.matrix(info.role, &info.name, Matrix::Packed(matrix))
    }
}

impl ModelBuilder {
    fn layer(&mut self, index: usize, name: &str) -> Result<&mut Parts> {
        self.layers.get_mut(index).ok_or_else(|| {
            Error::not_a_model(format!("tensor {name}: the model has no layer {index}"))
        })
    }

    fn matrix(&mut self, role: TensorRole, name: &str, matrix: Matrix) -> Result<()> {
        let (index, part) = match role {
            TensorRole::TokenEmbedding => {
                self.embedding = Some(matrix.into_linear()?);
                return Ok(());
            }
            TensorRole::Output => {
                self.head = Some(matrix.into_linear()?);
                return Ok(());
            }
            TensorRole::Layer { index, part } => (index, part),
            TensorRole::OutputNorm => return Err(no_matrix(name)),
        };
        if part == LayerPart::Gate {
            self.quantization = matrix.form().quantization();
        }
        let parts = self.layer(index, name)?;
        match part {
            LayerPart::AttnNorm | LayerPart::FfnNorm => return Err(no_matrix(name)),
            LayerPart::Q => parts.q = Some(matrix),
            LayerPart::K => parts.k = Some(matrix),
            LayerPart::V => parts.v = Some(matrix),
            LayerPart::O => parts.o = Some(matrix.into_linear()?),
            LayerPart::Gate => parts.gate = Some(matrix),
            LayerPart::Up => parts.up = Some(matrix),
            LayerPart::Down => parts.down = Some(matrix.into_linear()?),
        }
        parts.stack()
    }
}

impl Parts {
    fn stack(&mut self) -> Result<()> {
        if self.q.is_some() && self.k.is_some() && self.v.is_some() {
            let parts = [self.q.take(), self.k.take(), self.v.take()];
            let stacked = Matrix::stack(parts.into_iter().flatten().collect())?;
            self.qkv = Some(stacked.into_linear()?);
        }
        if self.gate.is_some() && self.up.is_some() {
            let parts = [self.gate.take(), self.up.take()];
            let stacked = Matrix::stack(parts.into_iter().flatten().collect())?;
            self.gate_up = Some(stacked.into_linear()?);
        }
        Ok(())
    }
}

fn need<T>(part: Option<T>, name: &str) -> Result<T> {
    part.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::not_a_model(format!("the model lacks its {name}"))
}

fn no_matrix(name: &str) -> Error {
    Error::not_a_model(format!("tensor {name}: expected a vector, found a matrix"))
}
