//! Reads the tensors of a pack.

use super::manifest::{Encoding, FileEntry, Manifest, malformed};
use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::int4::{self, CodeBits, PackedMatrix};
use crate::weights::safetensors::NAMES;
use crate::weights::stream::{AlignedBuffer, Stretch, TensorStream, Use};
use crate::weights::{
    Checklist, Progress, RowOrder, TensorInfo, TensorRole, TensorSink, failed_before,
};
use candle_core::quantized::GgmlDType;

/// A matrix of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedInfo {
    /// The name in the manifest, for messages.
    pub name: String,
    /// What it is to the model.
    pub role: TensorRole,
    /// `(out, in)`, checked against the config.
    pub shape: (usize, usize),
    /// Bits a code takes in the pack.
    pub bits: CodeBits,
}

impl PackedInfo {
    /// The matrix in the kernels' layout, from its bytes.
    pub(in crate::weights) fn decode(&self, data: &[u8]) -> Result<PackedMatrix> {
        let (rows, cols) = self.shape;
        int4::decode(data, self.bits, rows, cols)
            .map_err(|e| e.at(format_args!("tensor {}", self.name)))
    }
}

/// Reads a pack's tensors from its shards, fed in order and in chunks of any size. One tensor is held at a
/// time.
#[derive(Debug)]
pub struct PackReader {
    shards: Vec<FileEntry>,
    /// Shards begun; the last of them is being read.
    begun: usize,
    /// Bytes of that shard that have not come yet.
    left: u64,
    stream: TensorStream,
    failed: bool,
    bytes_seen: u64,
    tensors_total: usize,
}

impl PackReader {
    /// A reader for the pack of this manifest, whose config is `config`.
    ///
    /// # Errors
    /// `not_a_model` where the tensors are not those of the config.
    pub fn new(manifest: &Manifest, config: ModelConfig) -> Result<Self> {
        let mut checklist = Checklist::new(config, &NAMES);
        let mut stretches = Vec::with_capacity(manifest.tensors.len());
        let mut start = 0;
        for tensor in &manifest.tensors {
            let name = tensor.name.clone();
            let role = checklist.tick(&name, &tensor.shape)?;
            let what = match (tensor.encoding.code_bits(), &tensor.shape[..]) {
                (Some(bits), &[rows, cols]) => Use::Packed(PackedInfo {
                    name,
                    role,
                    shape: (rows, cols),
                    bits,
                }),
                (None, _) if tensor.encoding == Encoding::F32 => Use::Tensor(TensorInfo {
                    name,
                    role,
                    shape: tensor.shape.clone(),
                    dtype: GgmlDType::F32,
                    row_order: RowOrder::Natural,
                }),
                _ => return Err(malformed(format!("tensor {name}: is no matrix"))),
            };
            let end = start + tensor.bytes;
            stretches.push(Stretch { what, start, end });
            start = end;
        }
        checklist.expect_complete()?;
        Ok(Self {
            shards: manifest.shards.clone(),
            begun: 0,
            left: 0,
            stream: TensorStream::new(stretches, 0, AlignedBuffer::default()),
            failed: false,
            bytes_seen: 0,
            tensors_total: checklist.total(),
        })
    }

    /// The tensors in the order in which they come: what they are, the width of their codes where they are packed, and
    /// their bytes in the shards.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorRole, Option<CodeBits>, u64)> {
        self.stream.stretches().filter_map(|stretch| {
            let bytes = stretch.end - stretch.start;
            match &stretch.what {
                Use::Packed(info) => Some((info.role, Some(info.bits), bytes)),
                Use::Tensor(info) => Some((info.role, None, bytes)),
                Use::RopeFactors { .. } | Use::Skip => None,
            }
        })
    }

    /// Begins the shard of this name; the one before must be complete, and it must be the next.
    ///
    /// # Errors
    /// `integrity` where the shard before was too short, `invalid_argument` for another shard than the next.
    pub fn begin_shard(&mut self, name: &str) -> Result<()> {
        self.end_shard()?;
        let Some(next) = self.shards.get(self.begun) else {
            return Err(Error::invalid_argument(format!(
                "{name}: every shard is read"
            )));
        };
        if next.name != name {
            return Err(Error::invalid_argument(format!(
                "{name}: expected {} now",
                next.name
            )));
        }
        self.left = next.bytes;
        self.begun += 1;
        Ok(())
    }

    /// Takes the shard's next bytes.
    ///
    /// # Errors
    /// `integrity` for more bytes than the shard has, and whatever the sink answers, both naming the shard. After an
    /// error the reader takes nothing more.
    pub fn feed<S: TensorSink + ?Sized>(&mut self, chunk: &[u8], sink: &mut S) -> Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        let fed = self.try_feed(chunk, sink);
        self.failed = fed.is_err();
        fed.map_err(|e| self.at_shard(e))
    }

    fn try_feed<S: TensorSink + ?Sized>(&mut self, chunk: &[u8], sink: &mut S) -> Result<()> {
        self.left = self
            .left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| Error::new(ErrorKind::Integrity, "more bytes than the manifest says"))?;
        self.bytes_seen += chunk.len() as u64;
        // The manifest's tensors end where its shards do, so nothing is left over.
        self.stream.feed(chunk, sink).map(drop)
    }

    /// How far the pack is read.
    pub fn progress(&self) -> Progress {
        Progress {
            bytes_seen: self.bytes_seen,
            bytes_total: Some(self.stream.end()),
            tensors_done: self.stream.tensors_done(),
            tensors_total: self.tensors_total,
        }
    }

    /// Says that the last shard has ended.
    ///
    /// # Errors
    /// `integrity` for a shard that is too short or missing, by name.
    pub fn finish(mut self) -> Result<()> {
        self.end_shard()?;
        if let Some(missing) = self.shards.get(self.begun) {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("{} is missing", missing.name),
            ));
        }
        self.stream.finish().map(drop)
    }

    fn end_shard(&mut self) -> Result<()> {
        if self.failed {
            return Err(failed_before());
        }
        if self.left > 0 {
            self.failed = true;
            let short = format!("{} bytes are missing", self.left);
            return Err(self.at_shard(Error::new(ErrorKind::Integrity, short)));
        }
        Ok(())
    }

    fn at_shard(&self, e: Error) -> Error {
        match self.begun.checked_sub(1).and_then(|i| self.shards.get(i)) {
            Some(shard) => e.at(&shard.name),
            None => e,
        }
    }
}
