//! Hugging Face checkpoints: `model.safetensors`, whole or in shards.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. The `safetensors` crate parses
//! and validates the header; the data is cut from the stream as it comes.

use super::names::Names;
use super::stream::{AlignedBuffer, Stretch, TensorStream, Use};
use super::{Checklist, Progress, RowOrder, TensorInfo, TensorSink, failed_before, guess, shown};
use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo as HeaderEntry};
use candle_core::quantized::GgmlDType;
use serde_json::Value;

/// The format's own limit (`MAX_HEADER_SIZE` in the `safetensors` crate).
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length, before it.
const LENGTH: usize = 8;

/// Reads the safetensors files of one checkpoint from chunks of any size.
///
/// A checkpoint in one file may be fed straight away; one in shards needs [`begin_file`] before
/// each.
///
/// [`begin_file`]: SafetensorsReader::begin_file
pub struct SafetensorsReader {
    checklist: Checklist,
    state: State,
    file: Option<String>,
    /// Files whose header is read, and how many there must be, by the names.
    files_read: usize,
    files_total: usize,
    bytes_seen: u64,
    bytes_total: Option<u64>,
    tensors_done: usize,
    tensors_total: usize,
}

enum State {
    Header {
        bytes: Vec<u8>,
        buffer: AlignedBuffer,
    },
    Data(TensorStream),
    Failed,
}

impl SafetensorsReader {
    /// A reader for a checkpoint of `config`.
    pub fn new(config: ModelConfig) -> Self {
        let checklist = Checklist::new(config, &NAMES);
        Self {
            tensors_total: checklist.total(),
            checklist,
            state: State::Header {
                bytes: Vec::new(),
                buffer: AlignedBuffer::default(),
            },
            file: None,
            files_read: 0,
            files_total: 1,
            bytes_seen: 0,
            bytes_total: None,
            tensors_done: 0,
        }
    }

    /// Ends the file before, if any, and begins `name`, as `model-00001-of-00002.safetensors`.
    ///
    /// # Errors
    /// `not_a_model` where the file before is too short.
    pub fn begin_file(&mut self, name: &str) -> Result<()> {
        let untouched = matches!(&self.state, State::Header { bytes, .. } if bytes.is_empty());
        if !(untouched && self.file.is_none()) {
            let buffer = self.end_file()?;
            self.state = State::Header {
                bytes: Vec::new(),
                buffer,
            };
        }
        self.file = Some(name.into());
        self.files_total = shards_by_name(name).unwrap_or(1).max(self.files_total);
        Ok(())
    }

    /// Takes the file's next bytes.
    ///
    /// # Errors
    /// `not_a_model` or `unsupported_quantization`, naming file and tensor; and whatever the sink
    /// answers. After an error the reader takes nothing more.
    pub fn feed<S: TensorSink + ?Sized>(&mut self, chunk: &[u8], sink: &mut S) -> Result<()> {
        self.bytes_seen += chunk.len() as u64;
        let fed = self.try_feed(chunk, sink);
        fed.map_err(|e| {
            self.state = State::Failed;
            self.at_file(e)
        })
    }

    fn try_feed<S: TensorSink + ?Sized>(&mut self, mut chunk: &[u8], sink: &mut S) -> Result<()> {
        loop {
            match &mut self.state {
                State::Failed => return Err(failed_before()),
                State::Data(stream) => {
                    let before = stream.tensors_done();
                    let fed = stream.feed(chunk, sink);
                    self.tensors_done += stream.tensors_done() - before;
                    if fed?.is_empty() {
                        return Ok(());
                    }
                    return Err(Error::not_a_model(format!(
                        "bytes follow the last tensor's end at {}",
                        stream.end()
                    )));
                }
                State::Header { bytes, buffer } => {
                    let wanted = header_wants(bytes)?;
                    let (now, rest) = chunk.split_at(chunk.len().min(wanted));
                    bytes.extend_from_slice(now);
                    chunk = rest;
                    if bytes.len() < LENGTH || header_wants(bytes)? > 0 {
                        if chunk.is_empty() {
                            return Ok(());
                        }
                        continue;
                    }
                    let stretches = plan(bytes, &mut self.checklist)?;
                    let stream =
                        TensorStream::new(stretches, bytes.len() as u64, std::mem::take(buffer));
                    self.bytes_total = Some(self.bytes_total.unwrap_or(0) + stream.end());
                    self.state = State::Data(stream);
                    self.files_read += 1;
                    if self.files_read == self.files_total {
                        self.checklist.expect_complete()?;
                    }
                }
            }
        }
    }

    /// How far the checkpoint is read.
    pub fn progress(&self) -> Progress {
        Progress {
            bytes_seen: self.bytes_seen,
            bytes_total: self.bytes_total,
            tensors_done: self.tensors_done,
            tensors_total: self.tensors_total,
        }
    }

    /// Says that the last file has ended.
    ///
    /// # Errors
    /// `not_a_model` for a file that is too short, with the number of missing bytes, and for a
    /// checkpoint that lacks tensors.
    pub fn finish(mut self) -> Result<()> {
        self.end_file()?;
        self.checklist.expect_complete()
    }

    fn end_file(&mut self) -> Result<AlignedBuffer> {
        let ended = match std::mem::replace(&mut self.state, State::Failed) {
            State::Failed => Err(failed_before()),
            State::Data(stream) => stream.finish(),
            State::Header { bytes, .. } if bytes.is_empty() => {
                Err(Error::not_a_model("the file is empty"))
            }
            State::Header { bytes, .. } => Err(header_wants(&bytes).map_or_else(
                |e| e,
                |missing| {
                    Error::not_a_model(format!(
                        "the file is truncated: it ends after {} bytes inside its header; \
                         at least {missing} bytes are missing",
                        bytes.len()
                    ))
                },
            )),
        };
        ended.map_err(|e| self.at_file(e))
    }

    fn at_file(&self, e: Error) -> Error {
        match &self.file {
            Some(name) => e.at(name),
            None => e,
        }
    }
}

/// Bytes that are missing to the end of the length field, or, after it, of the header.
fn header_wants(bytes: &[u8]) -> Result<usize> {
    let Some(length) = bytes.first_chunk::<LENGTH>() else {
        return Ok(LENGTH - bytes.len());
    };
    let length_value = u64::from_le_bytes(*length);
    if !(2..=MAX_HEADER).contains(&length_value) {
        return Err(Error::not_a_model(format!(
            "expected a safetensors header of 2 to {MAX_HEADER} bytes, found a length of \
             {length_value} ({}){}",
            shown(length),
            guess(length)
        )));
    }
    if let Some(&first) = bytes.get(LENGTH)
        && first != b'{'
    {
        return Err(Error::not_a_model(format!(
            "expected a safetensors header to start with '{{', found {}",
            shown(&[first])
        )));
    }
    Ok(LENGTH + length_value as usize - bytes.len())
}

/// Parses one file's header and compares its tensors with the config.
fn plan(header: &[u8], checklist: &mut Checklist) -> Result<Vec<Stretch>> {
    let metadata: Metadata = serde_json::from_slice(&header[LENGTH..])
        .map_err(|e| Error::not_a_model(format!("safetensors header: {e}")).caused_by(e))?;
    let mut stretches = Vec::new();
    // In file order; the crate has checked that there are neither gaps nor overlaps.
    for name in metadata.offset_keys() {
        let Some(entry) = metadata.info(&name) else {
            continue;
        };
        let HeaderEntry {
            dtype,
            shape,
            data_offsets: (start, end),
        } = entry;
        let what = if is_redundant(&name, &checklist.config) {
            Use::Skip
        } else {
            let role = checklist.tick(&name, shape)?;
            let dtype = match dtype {
                Dtype::F32 => GgmlDType::F32,
                Dtype::F16 => GgmlDType::F16,
                Dtype::BF16 => GgmlDType::BF16,
                other => {
                    return Err(Error::new(
                        ErrorKind::UnsupportedQuantization,
                        format!(
                            "tensor {name}: dtype {other:?} is not supported (known: F32, F16, BF16)"
                        ),
                    ));
                }
            };
            Use::Tensor(TensorInfo {
                name,
                role,
                shape: shape.clone(),
                dtype,
                row_order: RowOrder::Natural,
            })
        };
        stretches.push(Stretch {
            what,
            start: header.len() as u64 + *start as u64,
            end: header.len() as u64 + *end as u64,
        });
    }
    Ok(stretches)
}

/// How many files a checkpoint has whose files are named `…-00001-of-00002.safetensors`.
fn shards_by_name(name: &str) -> Option<usize> {
    let (_, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    count.parse().ok()
}

/// The files of a checkpoint in shards, from `model.safetensors.index.json`, in order.
///
/// # Errors
/// `not_a_model` for text that is no such index, or that names files outside its directory.
pub fn shard_names(index_json: &str) -> Result<Vec<String>> {
    let place = "model.safetensors.index.json";
    let index: Value = serde_json::from_str(index_json)
        .map_err(|e| Error::not_a_model(format!("{place} is not JSON: {e}")).caused_by(e))?;
    let map = index["weight_map"]
        .as_object()
        .filter(|map| !map.is_empty())
        .ok_or_else(|| Error::not_a_model(format!("{place} has no weight_map")))?;
    let mut names = Vec::new();
    for (tensor, file) in map {
        let name = file
            .as_str()
            .filter(|name| name.ends_with(".safetensors") && !name.contains(['/', '\\', ':']))
            .ok_or_else(|| {
                Error::not_a_model(format!("{place}: {tensor}: {file} is no file's name"))
            })?;
        names.push(name.to_owned());
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// transformers' (`modeling_llama.py`, `modeling_smollm3.py`).
pub(super) static NAMES: Names = Names {
    token_embedding: "model.embed_tokens.weight",
    output_norm: "model.norm.weight",
    output: "lm_head.weight",
    layers: "model.layers.",
    parts: [
        "input_layernorm.weight",
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_proj.weight",
        "mlp.up_proj.weight",
        "mlp.down_proj.weight",
    ],
};

/// A tied head written out, and the rotary frequencies that transformers before 4.32 saved: the
/// model has both from elsewhere, as transformers itself does.
fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    (config.tie_word_embeddings && name == NAMES.output) || name.ends_with(".rotary_emb.inv_freq")
}
