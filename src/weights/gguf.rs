//! GGUF files, versions 2 and 3.
//!
//! `scan` finds the header's end and refuses absurd headers, Candle parses the header's bytes, and
//! the tensors behind it are cut from the stream as it comes.

mod ggml_type;
mod scan;

use super::names::Names;
use super::stream::{AlignedBuffer, Stretch, TensorStream, Use};
use super::{
    Checklist, LayerPart, Progress, RowOrder, TensorInfo, TensorRole, TensorSink, failed_before,
};
use crate::config::{Metadata, ModelConfig};
use crate::error::{Error, Result};
use candle_core::quantized::{GgmlDType, gguf_file};
use scan::{Scan, TableEntry};
use std::io::Cursor;

/// What a GGUF header says.
#[derive(Debug)]
pub struct GgufHeader {
    /// The model's numbers, checked; the tensor table fits them.
    pub config: ModelConfig,
    /// All keys and values, vocabulary and template among them.
    pub metadata: Metadata,
    /// Where the last tensor ends: the file has at least this many bytes.
    pub file_bytes: u64,
    /// The model's tensors: what they are, their type, and their bytes in the file.
    pub tensors: Vec<(TensorRole, GgmlDType, u64)>,
}

/// Takes a GGUF file: the header first, once, then every tensor.
pub trait GgufSink: TensorSink {
    /// The header is complete and fits the config.
    fn header(&mut self, header: GgufHeader) -> Result<()>;
}

/// Reads one GGUF file from chunks of any size.
#[derive(Debug)]
pub struct GgufReader {
    state: State,
    bytes_seen: u64,
    tensors_total: usize,
}

#[derive(Debug)]
enum State {
    Header { bytes: Vec<u8>, scan: Box<Scan> },
    Data(TensorStream),
    Failed,
}

/// While the header lasts, a chunk is copied in pieces of this size, so that a chunk which is the
/// whole file is not.
const HEADER_PIECE: usize = 64 << 10;

impl Default for GgufReader {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufReader {
    /// A reader at the first byte of a file.
    pub fn new() -> Self {
        Self {
            state: State::Header {
                bytes: Vec::new(),
                scan: Box::new(Scan::new()),
            },
            bytes_seen: 0,
            tensors_total: 0,
        }
    }

    /// Takes the file's next bytes. What follows the last tensor is ignored, as llama.cpp does.
    ///
    /// # Errors
    /// `not_a_model`, `unsupported_architecture` or `unsupported_quantization`, naming the key or
    /// the tensor; and whatever the sink answers. After an error the reader takes nothing more.
    pub fn feed<S: GgufSink + ?Sized>(&mut self, chunk: &[u8], sink: &mut S) -> Result<()> {
        let fed = self.try_feed(chunk, sink);
        if fed.is_err() {
            self.state = State::Failed;
        }
        self.bytes_seen += chunk.len() as u64;
        fed
    }

    fn try_feed<S: GgufSink + ?Sized>(&mut self, mut chunk: &[u8], sink: &mut S) -> Result<()> {
        loop {
            match &mut self.state {
                State::Failed => return Err(failed_before()),
                State::Data(stream) => return stream.feed(chunk, sink).map(drop),
                State::Header { bytes, scan } => {
                    if chunk.is_empty() {
                        return Ok(());
                    }
                    let (piece, rest) = chunk.split_at(chunk.len().min(HEADER_PIECE));
                    bytes.extend_from_slice(piece);
                    let Some(end) = scan.advance(bytes)? else {
                        chunk = rest;
                        continue;
                    };
                    // The end lies in this piece, or an earlier one would have had it.
                    chunk = &chunk[piece.len() - (bytes.len() - end)..];
                    let (header, stream) = read_header(&bytes[..end], scan)?;
                    self.tensors_total = TensorRole::all(&header.config).count();
                    self.state = State::Data(stream);
                    sink.header(header)?;
                }
            }
        }
    }

    /// How far the file is read.
    pub fn progress(&self) -> Progress {
        let (bytes_total, tensors_done) = match &self.state {
            State::Data(stream) => (Some(stream.end()), stream.tensors_done()),
            State::Header { .. } | State::Failed => (None, 0),
        };
        Progress {
            bytes_seen: self.bytes_seen,
            bytes_total,
            tensors_done,
            tensors_total: self.tensors_total,
        }
    }

    /// Says that the file has ended.
    ///
    /// # Errors
    /// `not_a_model` for a file that is too short, with the number of missing bytes.
    pub fn finish(self) -> Result<()> {
        match self.state {
            State::Failed => Err(failed_before()),
            State::Header { bytes, scan } => Err(scan.truncated(&bytes)),
            State::Data(stream) => stream.finish().map(drop),
        }
    }
}

/// Parses a complete header and plans the reading of the tensors.
fn read_header(bytes: &[u8], scan: &Scan) -> Result<(GgufHeader, TensorStream)> {
    let content = gguf_file::Content::read(&mut Cursor::new(bytes))
        .map_err(|e| Error::not_a_model(format!("gguf header: {e}")).caused_by(e))?;
    let metadata = Metadata::new(content.metadata);
    let tied = !content.tensor_infos.contains_key(NAMES.output);
    let config = ModelConfig::from_gguf(&metadata, tied)?;

    let mut checklist = Checklist::new(config, &NAMES);
    let data_start = (bytes.len() as u64).next_multiple_of(scan.alignment);
    let mut expected = 0u64;
    let mut stretches = Vec::with_capacity(scan.table.len());
    let mut tensors = Vec::with_capacity(scan.table.len());
    for TableEntry { name, offset } in &scan.table {
        let found = content.tensor_infos.get(name).ok_or_else(|| {
            Error::not_a_model(format!("tensor {name}: lost while parsing the header"))
        })?;
        let dims = found.shape.dims();
        let bytes = size_in_bytes(name, dims, found.ggml_dtype)?;
        if *offset != expected {
            let fault = if *offset < expected {
                "overlaps what stands before it"
            } else {
                "leaves a gap before it"
            };
            return Err(Error::not_a_model(format!(
                "tensor {name}: offset {offset} {fault}; expected {expected}"
            )));
        }
        let start = data_start + offset;
        let end = start + bytes;
        // Sizes are limited to 2^40 elements and 2^16 tensors, so nothing here overflows.
        expected = (offset + bytes).next_multiple_of(scan.alignment);
        let what = if name == ROPE_FACTORS && found.ggml_dtype == GgmlDType::F32 {
            Use::RopeFactors { name: name.clone() }
        } else {
            let role = checklist.tick(name, dims)?;
            tensors.push((role, found.ggml_dtype, bytes));
            Use::Tensor(TensorInfo {
                name: name.clone(),
                role,
                shape: dims.to_vec(),
                dtype: found.ggml_dtype,
                row_order: row_order(role, &checklist.config),
            })
        };
        stretches.push(Stretch { what, start, end });
    }
    checklist.expect_complete()?;

    let stream = TensorStream::new(stretches, bytes.len() as u64, AlignedBuffer::default());
    let header = GgufHeader {
        config: checklist.config,
        metadata,
        file_bytes: stream.end(),
        tensors,
    };
    Ok((header, stream))
}

fn size_in_bytes(name: &str, dims: &[usize], dtype: GgmlDType) -> Result<u64> {
    let row = dims.last().copied().unwrap_or(0);
    let block = dtype.block_size();
    if !row.is_multiple_of(block) {
        return Err(Error::not_a_model(format!(
            "tensor {name}: rows of {row} elements are not whole {dtype:?} blocks of {block}"
        )));
    }
    let elements: u64 = dims.iter().map(|&size| size as u64).product();
    Ok(elements / block as u64 * dtype.type_size() as u64)
}

/// llama.cpp's (`TENSOR_NAMES` in `gguf-py/gguf/constants.py`).
pub(super) static NAMES: Names = Names {
    token_embedding: "token_embd.weight",
    output_norm: "output_norm.weight",
    output: "output.weight",
    layers: "blk.",
    parts: [
        "attn_norm.weight",
        "attn_q.weight",
        "attn_k.weight",
        "attn_v.weight",
        "attn_output.weight",
        "ffn_norm.weight",
        "ffn_gate.weight",
        "ffn_up.weight",
        "ffn_down.weight",
    ],
};
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Both architectures are converted by `LlamaModel` of `convert_hf_to_gguf.py` or its child, which
/// permute Q and K.
fn row_order(role: TensorRole, config: &ModelConfig) -> RowOrder {
    match role {
        TensorRole::Layer {
            part: LayerPart::Q, ..
        } => RowOrder::GgufRope {
            heads: config.num_attention_heads,
        },
        TensorRole::Layer {
            part: LayerPart::K, ..
        } => RowOrder::GgufRope {
            heads: config.num_key_value_heads,
        },
        _ => RowOrder::Natural,
    }
}
