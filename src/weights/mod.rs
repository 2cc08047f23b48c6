//! Bytes to named tensors, one at a time.
//!
//! Readers are push streams: `feed` takes whatever chunk the host has, a header is parsed as soon as
//! its last byte is there, and every tensor goes to the [`TensorSink`] in file order and is dropped.
//! The file is never held; the largest tensor is, once, and not even that where it lies whole in the
//! chunk.
//!
//! Before the first tensor is handed over, a file's whole tensor table has been compared with the
//! [`ModelConfig`]: names, shapes, types, offsets.

mod elements;
pub mod gguf;
mod names;
pub mod pack;
pub mod safetensors;
mod stream;

pub use gguf::{GgufHeader, GgufReader, GgufSink};
pub use pack::{PackReader, PackedInfo};
pub use safetensors::SafetensorsReader;

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::int4::PackedMatrix;
use candle_core::quantized::GgmlDType;
use names::Names;
use std::collections::HashSet;
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

    /// A matrix of a pack, in the kernels' layout already. Sinks that want a file's own bytes refuse it.
    ///
    /// # Errors
    /// `invalid_argument` unless the sink takes such matrices.
    fn packed(&mut self, info: &PackedInfo, matrix: PackedMatrix) -> Result<()> {
        drop(matrix);
        Err(Error::invalid_argument(format!(
            "tensor {}: a packed matrix cannot be used here",
            info.name
        )))
    }
}

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes fed so far, over all files.
    pub bytes_seen: u64,
    /// Bytes of all files whose header is known, to the end of their last tensor. `None` until the
    /// first header is complete.
    pub bytes_total: Option<u64>,
    /// Tensors the sink has had.
    pub tensors_done: usize,
    /// Tensors a model of this config has. 0 until the config is known.
    pub tensors_total: usize,
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

/// Sees to it that the files hold every tensor of the config once, each in its shape.
struct Checklist {
    config: ModelConfig,
    seen: HashSet<TensorRole>,
    /// How the format at hand spells a role.
    names: &'static Names,
}

impl Checklist {
    fn new(config: ModelConfig, names: &'static Names) -> Self {
        Self {
            config,
            seen: HashSet::new(),
            names,
        }
    }

    /// Ticks off the tensor `name`, and says what it is.
    fn tick(&mut self, name: &str, shape: &[usize]) -> Result<TensorRole> {
        let role = self
            .names
            .role_of(name)
            .filter(|role| role.exists_in(&self.config))
            .ok_or_else(|| {
                Error::not_a_model(format!(
                    "tensor {name}: a {} model of {} layers has no such tensor",
                    self.config.architecture.name(),
                    self.config.num_hidden_layers
                ))
            })?;
        let expected = role.shape(&self.config);
        if shape != expected {
            return Err(Error::not_a_model(format!(
                "tensor {name}: expected {}, found {}",
                Dims(&expected),
                Dims(shape)
            )));
        }
        if !self.seen.insert(role) {
            return Err(Error::not_a_model(format!("tensor {name}: appears twice")));
        }
        Ok(role)
    }

    fn expect_complete(&self) -> Result<()> {
        let mut missing = TensorRole::all(&self.config).filter(|role| !self.seen.contains(role));
        let Some(first) = missing.next() else {
            return Ok(());
        };
        let first = self.names.name_of(first);
        Err(Error::not_a_model(match missing.count() {
            0 => format!("tensor {first} is missing"),
            more => format!("tensor {first} and {more} more are missing"),
        }))
    }

    fn total(&self) -> usize {
        TensorRole::all(&self.config).count()
    }
}

/// What bytes that should have been a model probably are, for a message.
fn guess(start: &[u8]) -> &'static str {
    let start = start.trim_ascii_start();
    if start.starts_with(b"<") {
        " - is this an HTML page?"
    } else if start.starts_with(b"vers") {
        " - is this a Git LFS pointer?"
    } else if start.starts_with(b"{") {
        " - is this a JSON file?"
    } else if start.starts_with(b"PK") || start.starts_with(&[0x1f, 0x8b]) {
        " - is this an archive?"
    } else if start.starts_with(b"GGUF") {
        " - is this a GGUF file?"
    } else {
        ""
    }
}

/// Bytes as a message shows them: printable ASCII as itself, the rest escaped.
fn shown(bytes: &[u8]) -> String {
    format!("'{}'", bytes.escape_ascii())
}

/// What a reader answers after it has failed once: its place in the file is lost.
fn failed_before() -> Error {
    Error::not_a_model("reading stopped at an earlier error; start a new load")
}
