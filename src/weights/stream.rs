//! The data section of a file: cuts the stream into tensors and hands them on.

use super::{PackedInfo, TensorInfo, TensorSink};
use crate::error::{Error, ErrorKind, Result};
use std::mem::size_of;

/// What happens to a stretch of the file.
#[derive(Debug)]
pub(super) enum Use {
    /// It is a tensor of the model.
    Tensor(TensorInfo),
    /// It is a pack's matrix.
    Packed(PackedInfo),
    /// Llama 3's frequency factors, `rope_freqs.weight` as f32. All ones say nothing; anything else
    /// is a scaled RoPE, which the model does not compute.
    RopeFactors {
        /// The tensor's name.
        name: String,
    },
    /// It repeats what the model has anyway.
    Skip,
}

/// A stretch of the file: bytes `start..end`, counted from the file's first.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) what: Use,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// Reads the stretches of one file, which must be in file order and not overlap.
#[derive(Debug)]
pub(super) struct TensorStream {
    stretches: Vec<Stretch>,
    next: usize,
    position: u64,
    buffer: AlignedBuffer,
    tensors_done: usize,
}

impl TensorStream {
    /// `position` is the place in the file of the first byte that will be fed.
    pub(super) fn new(stretches: Vec<Stretch>, position: u64, buffer: AlignedBuffer) -> Self {
        debug_assert!(stretches.is_sorted_by_key(|s| s.start));
        Self {
            stretches,
            next: 0,
            position,
            buffer,
            tensors_done: 0,
        }
    }

    /// Takes what belongs to the stretches from the front of `chunk`; gives what is left after the
    /// last one.
    pub(super) fn feed<'a, S: TensorSink + ?Sized>(
        &mut self,
        mut chunk: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8]> {
        while let Some(stretch) = self.stretches.get(self.next) {
            if self.position >= stretch.end {
                self.next += 1;
                continue;
            }
            if chunk.is_empty() {
                break;
            }
            let padding = stretch.start.saturating_sub(self.position);
            if padding > 0 || matches!(stretch.what, Use::Skip) {
                let stop = if padding > 0 {
                    padding
                } else {
                    stretch.end - self.position
                };
                let skipped = usize::try_from(stop).map_or(chunk.len(), |n| n.min(chunk.len()));
                chunk = &chunk[skipped..];
                self.position += skipped as u64;
                continue;
            }
            let bytes = usize::try_from(stretch.end - stretch.start)
                .map_err(|_| out_of_memory(&stretch.what, stretch.end - stretch.start))?;
            let whole = self.buffer.is_empty() && chunk.len() >= bytes && is_aligned(chunk);
            let taken = bytes.saturating_sub(self.buffer.len()).min(chunk.len());
            let (now, rest) = chunk.split_at(taken);
            if !whole {
                self.buffer
                    .extend(now, bytes)
                    .map_err(|()| out_of_memory(&stretch.what, bytes as u64))?;
            }
            chunk = rest;
            self.position += taken as u64;
            if self.position < stretch.end {
                continue;
            }
            let data = if whole { now } else { self.buffer.as_bytes() };
            match &stretch.what {
                Use::Tensor(info) => {
                    sink.tensor(info, data)?;
                    self.tensors_done += 1;
                }
                Use::Packed(info) => {
                    sink.packed(info, info.decode(data)?)?;
                    self.tensors_done += 1;
                }
                Use::RopeFactors { name } => refuse_scaling(name, data)?,
                Use::Skip => {}
            }
            self.buffer.clear();
        }
        Ok(chunk)
    }

    /// What is read, in file order.
    pub(super) fn stretches(&self) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter()
    }

    /// Where the last stretch ends.
    pub(super) fn end(&self) -> u64 {
        self.stretches.last().map_or(self.position, |s| s.end)
    }

    pub(super) fn tensors_done(&self) -> usize {
        self.tensors_done
    }

    /// Gives the buffer back for the next file, or says what is missing.
    pub(super) fn finish(mut self) -> Result<AlignedBuffer> {
        let missing = self.end().saturating_sub(self.position);
        if missing > 0 {
            let place = match self.stretches.get(self.next).map(|s| &s.what) {
                Some(
                    Use::Tensor(TensorInfo { name, .. }) | Use::Packed(PackedInfo { name, .. }),
                ) => {
                    format!("tensor {name}")
                }
                _ => "its tensors".into(),
            };
            return Err(Error::not_a_model(format!(
                "the file is truncated: {missing} of {} bytes are missing, from {place} on",
                self.end()
            )));
        }
        self.buffer.clear();
        Ok(self.buffer)
    }
}

fn out_of_memory(what: &Use, bytes: u64) -> Error {
    let name = match what {
        Use::Tensor(TensorInfo { name, .. })
        | Use::Packed(PackedInfo { name, .. })
        | Use::RopeFactors { name } => name.as_str(),
        Use::Skip => "skipped",
    };
    Error::new(
        ErrorKind::OutOfMemory,
        format!("tensor {name}: no memory for its {bytes} bytes"),
    )
}

fn refuse_scaling(name: &str, data: &[u8]) -> Result<()> {
    let one = 1f32.to_le_bytes();
    if data.chunks_exact(size_of::<f32>()).all(|x| *x == one) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedArchitecture,
        format!("tensor {name}: scaled rope is not supported"),
    ))
}

fn is_aligned(bytes: &[u8]) -> bool {
    (bytes.as_ptr() as usize).is_multiple_of(size_of::<u32>())
}

/// Bytes at an address that is a multiple of 8. Keeps its memory when cleared, unless it is much: then weights that come
/// after a large tensor take the place of its bytes.
#[derive(Debug, Default)]
pub(super) struct AlignedBuffer {
    words: Vec<u64>,
    len: usize,
}

/// A header may promise any size; beyond this, memory is asked for as the bytes really come, four
/// times as much as is there.
const FIRST_RESERVE: usize = 16 << 20;

/// Memory that is kept from one tensor to the next.
const MOST_KEPT: usize = 1 << 20;

impl AlignedBuffer {
    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn clear(&mut self) {
        self.len = 0;
        if self.words.len() > MOST_KEPT / size_of::<u64>() {
            self.words = Vec::new();
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// Appends; `full` is the size the buffer will grow to. Fails when memory cannot be had.
    fn extend(&mut self, bytes: &[u8], full: usize) -> Result<(), ()> {
        let end = self.len + bytes.len();
        let word = size_of::<u64>();
        if end > self.words.len() * word {
            let size = full.min(FIRST_RESERVE.max(end.saturating_mul(4)));
            let words = size.max(end).div_ceil(word);
            self.words
                .try_reserve_exact(words - self.words.len())
                .map_err(|_| ())?;
            self.words.resize(words, 0);
        }
        bytemuck::cast_slice_mut(&mut self.words)[self.len..end].copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}
