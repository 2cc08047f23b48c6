//! A model before its weights are there: how much memory it will take, and a stand-in that computes as fast.

use super::attention::Attention;
use super::kv_cache::CachePrecision;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::weights::Form;
use super::{KvCache, Layer, Model, ModelId, Precision};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::int4::{CodeBits, Linear};
use crate::kernels::PANEL;
use crate::weights::{LayerPart, TensorRole};
use candle_core::quantized::GgmlDType;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What a model will be, by the rules that the builder follows.
#[derive(Debug, Clone)]
pub struct Outline {
    config: ModelConfig,
    precision: Precision,
    forms: HashMap<TensorRole, Form>,
}

/// The operators of a layer, of which some stack several tensors.
const OPERATORS: [&[LayerPart]; 4] = [
    &[LayerPart::Q, LayerPart::K, LayerPart::V],
    &[LayerPart::O],
    &[LayerPart::Gate, LayerPart::Up],
    &[LayerPart::Down],
];

impl Outline {
    /// A model whose tensors are floats, as far as nothing else is said of them.
    pub fn new(config: ModelConfig, precision: Precision) -> Self {
        Self {
            config,
            precision,
            forms: HashMap::new(),
        }
    }

    /// Says what type a tensor has in a file.
    pub fn tensor(&mut self, role: TensorRole, dtype: GgmlDType) {
        self.forms.insert(role, Form::of(dtype, self.precision));
    }

    /// Says what codes a pack holds a matrix in.
    pub fn packed(&mut self, role: TensorRole, bits: CodeBits) {
        self.forms.insert(role, Form::Packed(bits.width()));
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// As [`Model::quantization`].
    pub fn quantization(&self) -> &'static str {
        let index = self.config.num_hidden_layers - 1;
        let part = LayerPart::Gate;
        self.form(TensorRole::Layer { index, part }).quantization()
    }

    /// As [`Model::weight_bytes`].
    pub fn weight_bytes(&self) -> u64 {
        let layers = (0..self.config.num_hidden_layers).flat_map(|layer| self.operators(layer));
        let tables = self.tables().map(|role| self.matrix(role));
        layers
            .chain(tables)
            .map(|(form, rows, cols)| form.bytes(rows, cols))
            .sum()
    }

    /// As [`KvCache::memory_bytes`] of a cache for `capacity` positions.
    pub fn cache_bytes(&self, capacity: usize) -> u64 {
        KvCache::bytes_of(
            &self.config,
            CachePrecision::of(self.quantization()),
            capacity,
        )
    }

    /// Bytes of one tensor's matrix in memory; 0 for a vector.
    pub fn tensor_bytes(&self, role: TensorRole) -> u64 {
        match role.shape(&self.config)[..] {
            [rows, cols] => self.form(role).bytes(rows, cols),
            _ => 0,
        }
    }

    /// The most bytes that a stacked operator's parts take beside it while it is put together.
    pub fn stacking_bytes(&self) -> u64 {
        let layers = (0..self.config.num_hidden_layers).flat_map(|layer| self.operators(layer));
        let bytes = layers.map(|(form, rows, cols)| form.bytes(rows, cols));
        bytes.max().unwrap_or(0)
    }

    /// A model of zeros with this one's shapes, of as many layers and words as make about `bytes`, and the share of this
    /// one's weights that it has: a token takes it that share of the time, since all of its time goes by weights.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn stand_in(&self, bytes: u64) -> Result<(Model, f64)> {
        let whole = self.weight_bytes();
        let part = (bytes as f64 / whole as f64).min(1.0);
        let some = |all: usize, step: usize| {
            let some = (all as f64 * part / step as f64).round() as usize * step;
            some.clamp(step.min(all), all)
        };
        let mut small = self.clone();
        small.config.num_hidden_layers = some(self.config.num_hidden_layers, 1);
        small.config.vocab_size = some(self.config.vocab_size, PANEL);
        (small.config.no_rope_layers).truncate(small.config.num_hidden_layers);
        let share = small.weight_bytes() as f64 / whole as f64;
        Ok((small.zeros()?, share))
    }

    fn zeros(self) -> Result<Model> {
        let linear = |(form, rows, cols): (Form, usize, usize)| -> Result<Linear> {
            form.zeros(rows, cols)?.into_linear()
        };
        let norm = || RmsNorm {
            weight: vec![0.0; self.config.hidden_size],
            eps: self.config.rms_norm_eps,
        };
        let layers = (0..self.config.num_hidden_layers)
            .map(|index| {
                let [qkv, out, gate_up, down] = self.operators(index);
                Ok(Layer {
                    attention_norm: norm(),
                    attention: Attention {
                        qkv: linear(qkv)?,
                        out: linear(out)?,
                        heads: self.config.num_attention_heads,
                        head_dim: self.config.head_dim,
                        rotary: !self.config.no_rope_layers[index],
                    },
                    mlp_norm: norm(),
                    mlp: Mlp {
                        gate_up: linear(gate_up)?,
                        down: linear(down)?,
                    },
                })
            })
            .collect::<Result<_>>()?;
        let mut tables = self.tables().map(|role| linear(self.matrix(role)));
        Ok(Model {
            id: ModelId::next(),
            embedding: tables.next().expect("every model has an embedding")?,
            head: tables.next().transpose()?,
            layers,
            norm: norm(),
            quantization: self.quantization(),
            digest: OnceLock::new(),
            config: self.config,
        })
    }

    /// Embedding, and head where it is another.
    fn tables(&self) -> impl Iterator<Item = TensorRole> + use<> {
        let head = (!self.config.tie_word_embeddings).then_some(TensorRole::Output);
        [TensorRole::TokenEmbedding].into_iter().chain(head)
    }

    /// A layer's operators, stacked as the builder stacks them.
    fn operators(&self, index: usize) -> [(Form, usize, usize); 4] {
        OPERATORS.map(|parts| {
            let matrices = parts.iter().map(|&part| {
                let role = TensorRole::Layer { index, part };
                self.matrix(role)
            });
            let form = Form::stacked(matrices.clone().map(|(form, ..)| form));
            let rows = matrices.clone().map(|(_, rows, _)| rows).sum();
            let cols = matrices.map(|(.., cols)| cols).next().unwrap_or(0);
            (form, rows, cols)
        })
    }

    fn matrix(&self, role: TensorRole) -> (Form, usize, usize) {
        let shape = role.shape(&self.config);
        (self.form(role), shape[0], shape[1])
    }

    fn form(&self, role: TensorRole) -> Form {
        let said = self.forms.get(&role).copied();
        said.unwrap_or_else(|| Form::of(GgmlDType::F32, self.precision))
    }
}
