//! `manifest.json`: what a pack is and what its files must be.

use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::int4::{CodeBits, GROUP, most_bytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// The manifest's name in its directory.
pub const MANIFEST: &str = "manifest.json";
/// What `format` says.
const FORMAT: &str = "smollm-web-pack";
/// The version that is written and read.
const VERSION: u32 = 2;
/// The most bytes a shard has.
pub const SHARD_BYTES: u64 = 8 << 20;
/// The longest manifest that is read: the largest model it could describe stays well below.
const MAX_MANIFEST: usize = 16 << 20;
const MAX_TEXT_FILE: u64 = 64 << 20;
/// The most weights a tensor has: its bytes, as floats, can still be counted on every platform.
const MAX_ELEMENTS: usize = usize::MAX >> 2;

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// A name for people, and for the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// GGUF's word for it, which also is the config's `model_type`.
    pub architecture: String,
    /// The model's numbers, as in Hugging Face's `config.json`.
    pub config: Value,
    /// Where the weights come from.
    pub source: Source,
    /// `tokenizer.json` and its kin: all small files that the model needs.
    pub files: Vec<FileEntry>,
    /// What travels with the weights and is not needed to run them: licence, notices.
    pub notices: Vec<FileEntry>,
    /// In the order of their bytes in the shards.
    pub tensors: Vec<TensorEntry>,
    /// In order: put one behind the other, they are the tensors.
    pub shards: Vec<FileEntry>,
}

/// The provenance of a pack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A page about the model, or whatever else its maker wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// As the source spells it; SPDX where it keeps to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The files of weights that were quantized.
    pub files: Vec<FileEntry>,
}

/// A file by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name, in the pack's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// As Hugging Face's checkpoints name it; rows are in their order, too.
    pub name: String,
    /// `[out, in]` or `[n]`.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Bytes in the shards.
    pub bytes: u64,
}

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Floats, as they are.
    F32,
    /// Codes of four bits, scales and minima, entropy-coded.
    Int4,
    /// The same with codes of six bits.
    Int6,
}

impl Encoding {
    /// The width of the codes; `None` for floats.
    pub const fn code_bits(self) -> Option<CodeBits> {
        match self {
            Self::F32 => None,
            Self::Int4 => Some(CodeBits::Four),
            Self::Int6 => Some(CodeBits::Six),
        }
    }

    /// The encoding with codes of this width.
    pub const fn of(bits: CodeBits) -> Self {
        match bits {
            CodeBits::Four => Self::Int4,
            CodeBits::Six => Self::Int6,
        }
    }

    /// The bytes that a tensor of this shape can take; `None` where it cannot be stored so.
    pub fn bytes(self, shape: &[usize]) -> Option<RangeInclusive<u64>> {
        match (self.code_bits(), shape) {
            (None, _) => {
                let bytes = 4 * shape.iter().map(|&n| n as u64).product::<u64>();
                Some(bytes..=bytes)
            }
            (Some(_), &[rows, cols]) if rows > 0 && cols > 0 && cols.is_multiple_of(GROUP) => {
                Some(1..=most_bytes(rows, cols))
            }
            (Some(_), _) => None,
        }
    }
}

impl FileEntry {
    /// The entry of a file with this content.
    pub fn of(name: impl Into<String>, content: &[u8]) -> Self {
        Self::from_digest(name, content.len() as u64, &Sha256::digest(content))
    }

    /// The entry of a file with this SHA-256.
    pub fn from_digest(name: impl Into<String>, bytes: u64, digest: &[u8]) -> Self {
        Self {
            name: name.into(),
            bytes,
            sha256: hex(digest),
        }
    }

    /// Sees whether this is the file.
    ///
    /// # Errors
    /// `integrity`, naming the file.
    pub fn verify(&self, content: &[u8]) -> Result<()> {
        if content.len() as u64 != self.bytes {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: expected {} bytes, found {}",
                    self.name,
                    self.bytes,
                    content.len()
                ),
            ));
        }
        let found = hex(&Sha256::digest(content));
        if found != self.sha256 {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!(
                    "{}: sha-256 is {found}, expected {}",
                    self.name, self.sha256
                ),
            ));
        }
        Ok(())
    }

    fn check(&self, most: u64) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(malformed(format!("{:?} is no file's name", self.name)));
        }
        if self.bytes == 0 || self.bytes > most {
            return Err(malformed(format!(
                "{}: {} bytes are not in 1..={most}",
                self.name, self.bytes
            )));
        }
        let digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if self.sha256.len() != 64 || !self.sha256.chars().all(digit) {
            return Err(malformed(format!("{}: sha256 is none", self.name)));
        }
        Ok(())
    }
}

impl Manifest {
    /// A manifest of nothing yet.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            name: None,
            architecture: config.architecture.name().into(),
            config: config.to_json(),
            source: Source::default(),
            files: Vec::new(),
            notices: Vec::new(),
            tensors: Vec::new(),
            shards: Vec::new(),
        }
    }

    /// Reads `manifest.json`. All that can be known without the other files is checked: its own SHA-256, names, sizes,
    /// and sizes. That the tensors are those of the config is [`PackReader`](super::PackReader)'s to see.
    ///
    /// # Errors
    /// `integrity` where the text is not what was written, `not_a_model` naming the file or tensor.
    pub fn parse(text: &str) -> Result<Self> {
        /// Read before the rest, which other versions may spell differently.
        #[derive(Deserialize)]
        struct Kind {
            format: String,
            version: u32,
        }
        if text.len() > MAX_MANIFEST {
            return Err(malformed(format!("{} bytes are too many", text.len())));
        }
        // First: what a flipped bit says of itself means nothing.
        let sealed = seal::verify(text)?;
        let not_json = |e: serde_json::Error| malformed(&e).caused_by(e);
        let kind: Kind = serde_json::from_str(text).map_err(not_json)?;
        if kind.format != FORMAT {
            return Err(malformed(format!(
                "expected the format {FORMAT}, found {:?}",
                kind.format
            )));
        }
        if kind.version != VERSION {
            return Err(malformed(format!(
                "version {} of the format is not supported (known: {VERSION})",
                kind.version
            )));
        }
        if !sealed {
            return Err(malformed("does not end in its sha256"));
        }
        let manifest: Self = serde_json::from_str(text).map_err(not_json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The text that [`Manifest::parse`] reads, the same for the same manifest. Its last key, `sha256`, is the hash of
    /// all before it, so that one changed byte is seen here as in any other file.
    ///
    /// # Errors
    /// `invalid_argument` where the numbers cannot be written as JSON.
    pub fn to_text(&self) -> Result<String> {
        let text = serde_json::to_string(self)
            .map_err(|e| Error::invalid_argument(format!("{MANIFEST}: {e}")).caused_by(e))?;
        Ok(seal::close(text))
    }

    /// The model's numbers.
    ///
    /// # Errors
    /// Those of [`ModelConfig::from_json`].
    pub fn model_config(&self) -> Result<ModelConfig> {
        let config =
            ModelConfig::from_json(&self.config.to_string()).map_err(|e| e.at(MANIFEST))?;
        if config.architecture.name() != self.architecture {
            return Err(malformed(format!(
                "architecture {:?} is not the config's {:?}",
                self.architecture,
                config.architecture.name()
            )));
        }
        Ok(config)
    }

    /// The shard of this name.
    pub fn shard(&self, name: &str) -> Option<&FileEntry> {
        self.shards.iter().find(|shard| shard.name == name)
    }

    fn check(&self) -> Result<()> {
        let mut names = HashSet::from([MANIFEST]);
        let files = self.files.iter().map(|file| (file, MAX_TEXT_FILE));
        let notices = self.notices.iter().map(|file| (file, MAX_TEXT_FILE));
        let shards = self.shards.iter().map(|shard| (shard, SHARD_BYTES));
        for (file, most) in files.chain(notices).chain(shards) {
            file.check(most)?;
            if !names.insert(&file.name) {
                return Err(malformed(format!("{} stands twice", file.name)));
            }
        }
        let mut stored = 0u64;
        for shard in &self.shards {
            stored = stored.saturating_add(shard.bytes);
        }
        let mut needed = 0u64;
        for tensor in &self.tensors {
            // Sizes beyond any model's must not overflow before the config refuses them.
            let elements = tensor
                .shape
                .iter()
                .try_fold(1usize, |n, &size| n.checked_mul(size));
            let possible = elements
                .filter(|n| *n <= MAX_ELEMENTS)
                .and_then(|_| tensor.encoding.bytes(&tensor.shape));
            if !possible.is_some_and(|possible| possible.contains(&tensor.bytes)) {
                return Err(malformed(format!(
                    "tensor {}: {} bytes are not those of {:?} {:?}",
                    tensor.name, tensor.bytes, tensor.encoding, tensor.shape
                )));
            }
            needed = needed.saturating_add(tensor.bytes);
        }
        if needed != stored {
            return Err(malformed(format!(
                "the tensors take {needed} bytes, the shards hold {stored}"
            )));
        }
        Ok(())
    }
}

/// The hash of the manifest in the manifest: its last key.
mod seal {
    use super::{MANIFEST, hex};
    use crate::error::{Error, ErrorKind, Result};
    use sha2::{Digest, Sha256};

    const KEY: &str = ",\"sha256\":\"";
    const END: &str = "\"}";
    const DIGITS: usize = 64;

    /// Puts the hash of a JSON object's text into it. The hash is that of the text without its closing brace.
    pub fn close(mut text: String) -> String {
        text.pop();
        let digest = hex(&Sha256::digest(&text));
        text + KEY + &digest + END + "\n"
    }

    /// Whether the text has a hash, which is then the right one.
    pub fn verify(text: &str) -> Result<bool> {
        let sealed = text.strip_suffix('\n').and_then(|text| {
            let (rest, digest) = text
                .strip_suffix(END)?
                .split_at_checked(text.len().checked_sub(END.len() + DIGITS)?)?;
            Some((rest.strip_suffix(KEY)?, digest))
        });
        let Some((content, digest)) = sealed else {
            return Ok(false);
        };
        let found = hex(&Sha256::digest(content));
        if found != digest {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("{MANIFEST}: sha-256 is {found}, expected {digest}"),
            ));
        }
        Ok(true)
    }
}

/// `not_a_model`, about the manifest.
pub(super) fn malformed(message: impl std::fmt::Display) -> Error {
    Error::not_a_model(format!("{MANIFEST}: {message}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
        text
    })
}
