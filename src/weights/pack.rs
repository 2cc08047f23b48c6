//! The Int4 pack: a directory that any static host can serve.
//!
//! `manifest.json` ([`Manifest`]) says what the model is and lists everything else by length and SHA-256: tokenizer and
//! template as a checkpoint has them, and numbered shards of at most 8 MiB. Put one behind the other, the shards are the
//! tensors: vectors as floats, matrices entropy-coded (`int4/coded.rs`), so that there is nothing left to compress.
//!
//! Fetching, and hashing what was fetched ([`FileEntry::verify`]), are the host's: browsers bring both.

mod calibrated;
mod manifest;
mod reader;
mod rounding;
mod writer;

pub use calibrated::Calibrated;
pub use manifest::{Encoding, FileEntry, MANIFEST, Manifest, SHARD_BYTES, Source, TensorEntry};
pub use reader::{PackReader, PackedInfo};
pub use rounding::{Nearest, Rounding, SourceMatrix};
pub use writer::{PackFormat, PackWriter, TensorReport, digest};
