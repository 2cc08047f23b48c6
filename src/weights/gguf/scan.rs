//! Finds the end of a GGUF header as its bytes come, and refuses absurd ones before anybody
//! allocates from their counts.
//!
//! Candle parses the header, but needs it whole and would start again with every chunk. This scan
//! goes over each byte once, however the bytes are cut.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use super::ggml_type;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::{guess, shown};
use std::collections::HashSet;

/// The whole header. SmolLM3's, with 128,256 tokens and 280,147 merges, has 8 MB.
pub(super) const MAX_HEADER: usize = 64 << 20;
const MAX_TENSORS: u64 = 1 << 16;
const MAX_KEYS: u64 = 1 << 12;
/// A key has at most 2^16 - 1 bytes, a tensor's name at most 64, by the format.
const MAX_KEY: u64 = (1 << 16) - 1;
const MAX_NAME: u64 = 64;
const MAX_STRING: u64 = 1 << 24;
/// Over all arrays together: a parsed element takes 32 bytes, however small it is in the file.
const MAX_ELEMENTS: u64 = 1 << 22;
const MAX_DEPTH: usize = 4;
const MAX_DIMS: u32 = 4;
const MAX_TENSOR_ELEMENTS: u64 = 1 << 40;
/// `GGUF_DEFAULT_ALIGNMENT`.
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u32 = 1 << 16;

const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// One line of the tensor table, in file order.
#[derive(Debug)]
pub(super) struct TableEntry {
    pub(super) name: String,
    /// From the start of the data section.
    pub(super) offset: u64,
}

#[derive(Debug)]
enum Step {
    Preamble,
    Key,
    ValueType,
    Value(u32),
    /// The elements of the arrays on the stack.
    Elements,
    TensorName,
    Tensor,
    Done,
}

#[derive(Debug)]
struct Array {
    element: u32,
    left: u64,
}

/// The state between two chunks.
#[derive(Debug)]
pub(super) struct Scan {
    /// Everything before it is understood.
    position: usize,
    /// Bytes from `position` that the next step needs.
    need: usize,
    step: Step,
    keys_left: u64,
    tensors_left: u64,
    arrays: Vec<Array>,
    elements: u64,
    /// The key or tensor at hand.
    name: String,
    keys: HashSet<String>,
    names: HashSet<String>,
    pub(super) table: Vec<TableEntry>,
    pub(super) alignment: u64,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self {
            position: 0,
            need: 0,
            step: Step::Preamble,
            keys_left: 0,
            tensors_left: 0,
            arrays: Vec::new(),
            elements: 0,
            name: String::new(),
            keys: HashSet::new(),
            names: HashSet::new(),
            table: Vec::new(),
            alignment: DEFAULT_ALIGNMENT,
        }
    }

    /// Goes on over `header`, all bytes so far. Gives the header's length once it is complete.
    pub(super) fn advance(&mut self, header: &[u8]) -> Result<Option<usize>> {
        // The whole magic, so that the message does not depend on how the bytes are cut.
        if header.len() >= 4 {
            check_magic(header)?;
        }
        while !matches!(self.step, Step::Done) {
            let before = self.position;
            if !self.take_step(header)? {
                return Ok(None);
            }
            debug_assert!(self.position >= before);
        }
        Ok(Some(self.position))
    }

    /// What is missing, for a file of these bytes and no more.
    pub(super) fn truncated(&self, header: &[u8]) -> Error {
        if header.is_empty() {
            return Error::not_a_model("the file is empty");
        }
        if let Err(e) = check_magic(header) {
            return e;
        }
        let length = header.len();
        let missing = (self.position + self.need.max(1))
            .saturating_sub(length)
            .max(1);
        let place = match self.step {
            Step::Preamble => "its first 24 bytes".into(),
            Step::Key => format!("the metadata, {} keys before their end", self.keys_left),
            Step::ValueType | Step::Value(_) | Step::Elements => {
                format!("the metadata, at {}", self.name)
            }
            Step::TensorName => format!("the tensor table, {} before its end", self.tensors_left),
            Step::Tensor => format!("the tensor table, at {}", self.name),
            Step::Done => "its data".into(),
        };
        Error::not_a_model(format!(
            "the file is truncated: it ends after {length} bytes inside {place}; \
             at least {missing} bytes are missing"
        ))
    }

    /// One unit of the header; false where its bytes are not all there yet.
    fn take_step(&mut self, header: &[u8]) -> Result<bool> {
        match self.step {
            Step::Preamble => self.preamble(header),
            Step::Key => self.key(header),
            Step::ValueType => {
                let Some(bytes) = self.bytes(header, 4)? else {
                    return Ok(false);
                };
                let kind = u32_at(bytes, 0);
                self.position += 4;
                self.step = Step::Value(kind);
                Ok(true)
            }
            Step::Value(kind) => self.value(header, kind),
            Step::Elements => self.elements(header),
            Step::TensorName => self.tensor_name(header),
            Step::Tensor => self.tensor(header),
            Step::Done => Ok(true),
        }
    }

    fn preamble(&mut self, header: &[u8]) -> Result<bool> {
        if let Some(version) = header.get(4..8).map(|bytes| u32_at(bytes, 0))
            && !matches!(version, 2 | 3)
        {
            let hint = if matches!(version.swap_bytes(), 1..=3) {
                " (a big-endian file)"
            } else {
                ""
            };
            return Err(Error::not_a_model(format!(
                "gguf version {version}{hint} is not supported (known: 2, 3)"
            )));
        }
        let Some(bytes) = self.bytes(header, 24)? else {
            return Ok(false);
        };
        let (tensors, keys) = (u64_at(bytes, 8), u64_at(bytes, 16));
        limit("tensor count", tensors, MAX_TENSORS)?;
        limit("metadata key count", keys, MAX_KEYS)?;
        self.tensors_left = tensors;
        self.keys_left = keys;
        self.position += 24;
        self.next_key();
        Ok(true)
    }

    fn next_key(&mut self) {
        self.step = match (self.keys_left, self.tensors_left) {
            (0, 0) => Step::Done,
            (0, _) => Step::TensorName,
            _ => Step::Key,
        };
    }

    fn key(&mut self, header: &[u8]) -> Result<bool> {
        let Some(key) = self.string(header, "metadata key", MAX_KEY)? else {
            return Ok(false);
        };
        self.name = utf8(key, "metadata key")?;
        if !self.keys.insert(self.name.clone()) {
            return Err(Error::not_a_model(format!(
                "gguf metadata {}: the key appears twice",
                self.name
            )));
        }
        self.position += 8 + key.len();
        self.step = Step::ValueType;
        Ok(true)
    }

    fn value(&mut self, header: &[u8], kind: u32) -> Result<bool> {
        let size = match kind {
            STRING => {
                let what = format!("metadata {}: string", self.name);
                let Some(text) = self.string(header, &what, MAX_STRING)? else {
                    return Ok(false);
                };
                8 + text.len()
            }
            ARRAY => return self.open_array(header),
            scalar => self.scalar_size(scalar)?,
        };
        let Some(bytes) = self.bytes(header, size)? else {
            return Ok(false);
        };
        if self.name == "general.alignment" {
            self.alignment = alignment(kind, bytes)?;
        }
        self.position += size;
        self.keys_left -= 1;
        self.next_key();
        Ok(true)
    }

    fn open_array(&mut self, header: &[u8]) -> Result<bool> {
        let Some(bytes) = self.bytes(header, 12)? else {
            return Ok(false);
        };
        let (element, left) = (u32_at(bytes, 0), u64_at(bytes, 4));
        if !matches!(element, STRING | ARRAY) {
            self.scalar_size(element)?;
        }
        self.elements = self.elements.saturating_add(left);
        limit(
            &format!("metadata {}: array elements", self.name),
            self.elements,
            MAX_ELEMENTS,
        )?;
        if self.arrays.len() == MAX_DEPTH {
            return Err(Error::not_a_model(format!(
                "gguf metadata {}: arrays are nested deeper than {MAX_DEPTH}",
                self.name
            )));
        }
        self.arrays.push(Array { element, left });
        self.position += 12;
        self.step = Step::Elements;
        Ok(true)
    }

    fn elements(&mut self, header: &[u8]) -> Result<bool> {
        let Some(top) = self.arrays.last() else {
            self.keys_left -= 1;
            self.next_key();
            return Ok(true);
        };
        let (element, left) = (top.element, top.left);
        if left == 0 {
            self.arrays.pop();
            return Ok(true);
        }
        let (size, taken) = match element {
            STRING => {
                let what = format_args!("metadata {}: string", self.name);
                let Some(length) = self.bytes_quietly(header, 8) else {
                    self.need = 8;
                    return Ok(false);
                };
                let length = u64_at(length, 0);
                if length > MAX_STRING {
                    limit(&what.to_string(), length, MAX_STRING)?;
                }
                (8 + length as usize, 1)
            }
            ARRAY => {
                if let Some(top) = self.arrays.last_mut() {
                    top.left -= 1;
                }
                // Undone where the inner array's own header is not there yet.
                let opened = self.open_array(header)?;
                if !opened && let Some(top) = self.arrays.last_mut() {
                    top.left += 1;
                }
                return Ok(opened);
            }
            // At most 8 bytes each, and `open_array` has limited how many.
            scalar => (self.scalar_size(scalar)? * left as usize, left),
        };
        if self.bytes(header, size)?.is_none() {
            return Ok(false);
        }
        self.position += size;
        if let Some(top) = self.arrays.last_mut() {
            top.left -= taken;
        }
        Ok(true)
    }

    fn tensor_name(&mut self, header: &[u8]) -> Result<bool> {
        let Some(name) = self.string(header, "tensor name", MAX_NAME)? else {
            return Ok(false);
        };
        self.name = utf8(name, "tensor name")?;
        if !self.names.insert(self.name.clone()) {
            return Err(Error::not_a_model(format!(
                "tensor {}: appears twice",
                self.name
            )));
        }
        self.position += 8 + name.len();
        self.step = Step::Tensor;
        Ok(true)
    }

    fn tensor(&mut self, header: &[u8]) -> Result<bool> {
        let Some(bytes) = self.bytes(header, 4)? else {
            return Ok(false);
        };
        let dims = u32_at(bytes, 0);
        if dims == 0 || dims > MAX_DIMS {
            return Err(Error::not_a_model(format!(
                "tensor {}: {dims} dimensions are not in 1..={MAX_DIMS}",
                self.name
            )));
        }
        let dims = dims as usize;
        let Some(bytes) = self.bytes(header, 4 + 8 * dims + 4 + 8)? else {
            return Ok(false);
        };
        let mut elements = 1u64;
        for axis in 0..dims {
            let size = u64_at(bytes, 4 + 8 * axis);
            // Candle keeps an axis as usize, which on wasm32 would lose what is above 2^32.
            elements = elements
                .checked_mul(size)
                .filter(|n| (1..=MAX_TENSOR_ELEMENTS).contains(n) && size <= u32::MAX.into())
                .ok_or_else(|| {
                    Error::not_a_model(format!(
                        "tensor {}: {size} elements along one axis make an impossible size",
                        self.name
                    ))
                })?;
        }
        let kind = u32_at(bytes, 4 + 8 * dims);
        ggml_type::check(kind).map_err(|name| {
            Error::new(
                ErrorKind::UnsupportedQuantization,
                format!(
                    "tensor {}: ggml type {kind}{name} is not supported",
                    self.name
                ),
            )
        })?;
        let offset = u64_at(bytes, 8 + 8 * dims);
        self.position += 4 + 8 * dims + 4 + 8;
        self.table.push(TableEntry {
            name: std::mem::take(&mut self.name),
            offset,
        });
        self.tensors_left -= 1;
        self.next_key();
        Ok(true)
    }

    fn scalar_size(&self, kind: u32) -> Result<usize> {
        match kind {
            0 | 1 | 7 => Ok(1),
            2 | 3 => Ok(2),
            4..=6 => Ok(4),
            10..=12 => Ok(8),
            other => Err(Error::not_a_model(format!(
                "gguf metadata {}: unknown value type {other}",
                self.name
            ))),
        }
    }

    /// The next `count` bytes, where they are there.
    fn bytes<'a>(&mut self, header: &'a [u8], count: usize) -> Result<Option<&'a [u8]>> {
        if self.position + count > MAX_HEADER {
            return Err(Error::not_a_model(format!(
                "gguf header: more than {MAX_HEADER} bytes, at {}",
                self.name
            )));
        }
        self.need = count;
        Ok(self.bytes_quietly(header, count))
    }

    fn bytes_quietly<'a>(&self, header: &'a [u8], count: usize) -> Option<&'a [u8]> {
        header.get(self.position..)?.get(..count)
    }

    /// The next string's bytes; its length field is not counted in them.
    fn string<'a>(&mut self, header: &'a [u8], what: &str, most: u64) -> Result<Option<&'a [u8]>> {
        let Some(length) = self.bytes(header, 8)? else {
            return Ok(None);
        };
        let length = u64_at(length, 0);
        limit(&format!("{what} length"), length, most)?;
        let bytes = self.bytes(header, 8 + length as usize)?;
        Ok(bytes.map(|bytes| &bytes[8..]))
    }
}

/// Compares the first four bytes, or what there is of them.
fn check_magic(header: &[u8]) -> Result<()> {
    let start = &header[..header.len().min(4)];
    if b"GGUF".starts_with(start) {
        return Ok(());
    }
    Err(Error::not_a_model(format!(
        "expected GGUF, found {}{}",
        shown(start),
        guess(start)
    )))
}

/// By the format, and in llama.cpp, a u32 that is a power of two.
fn alignment(kind: u32, bytes: &[u8]) -> Result<u64> {
    if kind != UINT32 {
        return Err(Error::not_a_model(format!(
            "gguf metadata general.alignment: expected a u32, found value type {kind}"
        )));
    }
    let value = u32_at(bytes, 0);
    if !value.is_power_of_two() || value > MAX_ALIGNMENT {
        return Err(Error::not_a_model(format!(
            "gguf metadata general.alignment: {value} is not a power of two up to {MAX_ALIGNMENT}"
        )));
    }
    Ok(value.into())
}

fn limit(what: &str, value: u64, most: u64) -> Result<()> {
    if value <= most {
        return Ok(());
    }
    Err(Error::not_a_model(format!(
        "gguf {what} {value} is more than {most}"
    )))
}

fn utf8(bytes: &[u8], what: &str) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.into()),
        _ => Err(Error::not_a_model(format!(
            "gguf {what} {} is no text",
            shown(&bytes[..bytes.len().min(64)])
        ))),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
