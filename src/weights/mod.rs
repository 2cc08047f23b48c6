//! Bytes to named tensors, one at a time.
//!
//! Readers are push streams: `feed` takes whatever chunk the host has, a header is parsed as soon as
//! its last byte is there, and every tensor goes to the [`TensorSink`] in file order and is dropped.
//! The file is never held; the largest tensor is, once, and not even that where it lies whole in the
//! chunk.
//!
//! Before the first tensor is handed over, a file's whole tensor table has been compared with the
//! [`ModelConfig`]: names, shapes, types, offsets.

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use candle_core::quantized::GgmlDType;
use std::fmt;

/// A tensor of one transformer block. Shapes are `[out, in]` for `x W^T`, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerPart {
    /// RMSNorm before attention: `[hidden]`.
    AttnNorm,
    /// Queries: `[heads * head_dim, hidden]`.
    Q,
    /// Keys: `[kv_heads * head_dim, hidden]`.
    K,
    /// Values: `[kv_heads * head_dim, hidden]`.
    V,
    /// Attention output: `[hidden, heads * head_dim]`.
    O,
    /// RMSNorm before the feed-forward layer: `[hidden]`.
    FfnNorm,
    /// SwiGLU gate: `[intermediate, hidden]`.
    Gate,
    /// SwiGLU value: `[intermediate, hidden]`.
    Up,
    /// Feed-forward output: `[hidden, intermediate]`.
    Down,
}

impl LayerPart {
    /// Every part, in the order of the forward pass.
    pub const ALL: [Self; 9] = [
        Self::AttnNorm,
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::FfnNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];
}

/// What a tensor is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// `[vocab, hidden]`; the head too, where it is tied.
    TokenEmbedding,
    /// One of a block's nine.
    Layer {
        /// The block, from 0.
        index: usize,
        /// Which of the nine.
        part: LayerPart,
    },
    /// The last RMSNorm: `[hidden]`.
    OutputNorm,
    /// An untied head: `[vocab, hidden]`.
    Output,
}

impl TensorRole {
    /// Every tensor a model of `config` has.
    pub fn all(config: &ModelConfig) -> impl Iterator<Item = Self> {
        let layers = (0..config.num_hidden_layers).flat_map(|index| {
            LayerPart::ALL
                .into_iter()
                .map(move |part| Self::Layer { index, part })
        });
        [Self::TokenEmbedding]
            .into_iter()
            .chain(layers)
            .chain([Self::OutputNorm])
            .chain((!config.tie_word_embeddings).then_some(Self::Output))
    }

    /// The shape that `config` gives this tensor.
    pub fn shape(self, config: &ModelConfig) -> Vec<usize> {
        let hidden = config.hidden_size;
        let inner = config.intermediate_size;
        match self {
            Self::TokenEmbedding | Self::Output => vec![config.vocab_size, hidden],
            Self::OutputNorm => vec![hidden],
            Self::Layer { part, .. } => match part {
                LayerPart::AttnNorm | LayerPart::FfnNorm => vec![hidden],
                LayerPart::Q => vec![config.q_dim(), hidden],
                LayerPart::K | LayerPart::V => vec![config.kv_dim(), hidden],
                LayerPart::O => vec![hidden, config.q_dim()],
                LayerPart::Gate | LayerPart::Up => vec![inner, hidden],
                LayerPart::Down => vec![hidden, inner],
            },
        }
    }

    /// Whether this role exists in a model of `config`.
    fn exists_in(self, config: &ModelConfig) -> bool {
        match self {
            Self::Layer { index, .. } => index < config.num_hidden_layers,
            Self::Output => !config.tie_word_embeddings,
            Self::TokenEmbedding | Self::OutputNorm => true,
        }
    }
}

/// The order of a matrix's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As in Hugging Face's checkpoints.
    Natural,
    /// GGUF's Q and K of llama and smollm3: within each of `heads` heads of size d, row 2i is
    /// Hugging Face's row i and row 2i + 1 its row i + d/2 (`LlamaModel.permute` in llama.cpp's
    /// `convert_hf_to_gguf.py`), for a RoPE that turns neighbours. The model builder puts the
    /// rows back.
    GgufRope {
        /// Heads in this matrix.
        heads: usize,
    },
}

/// One tensor, as a [`TensorSink`] gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// The name in the file, for messages.
    pub name: String,
    /// What it is to the model.
    pub role: TensorRole,
    /// `[out, in]` or `[n]`, rows contiguous, checked against the config.
    pub shape: Vec<usize>,
    /// The element or block type of the bytes.
    pub dtype: GgmlDType,
    /// The order of the rows.
    pub row_order: RowOrder,
}

/// Takes the tensors of a model, each once.
pub trait TensorSink {
    /// `data` is exactly the tensor's bytes, little-endian, at an address that is a multiple of 4.
    /// It is gone after the call.
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()>;
}

/// A shape as messages spell it: `576x192`.
struct Dims<'a>(&'a [usize]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (axis, size) in self.0.iter().enumerate() {
            let times = if axis == 0 { "" } else { "x" };
            write!(f, "{times}{size}")?;
        }
        Ok(())
    }
}

/// Compares a tensor's shape with the config's.
fn check_shape(name: &str, role: TensorRole, shape: &[usize], config: &ModelConfig) -> Result<()> {
    let expected = role.shape(config);
    if shape == expected {
        return Ok(());
    }
    Err(Error::not_a_model(format!(
        "tensor {name}: expected {}, found {}",
        Dims(&expected),
        Dims(shape)
    )))
}
