//! A pack's directory on disk.

use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use smollm_web::weights::pack::{FileEntry, MANIFEST, Manifest, SHARD_BYTES};
use smollm_web::{Error, ErrorKind, Result};

/// Inflated bytes that are handed on at once.
const CHUNK: usize = 1 << 20;

/// A pack whose manifest and small files are read.
pub struct PackDir {
    directory: PathBuf,
    pub manifest: Manifest,
    texts: Vec<(String, String)>,
}

/// What [`PackDir::read_shards`] hands on.
pub enum Piece<'a> {
    /// A shard of this name begins.
    Shard(&'a str),
    /// Its next inflated bytes.
    Bytes(&'a [u8]),
}

impl PackDir {
    /// Reads everything but the shards.
    pub fn open(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|e| unreadable(&path, e))
        };
        let manifest = Manifest::parse(&read(MANIFEST)?).map_err(|e| e.at(directory.display()))?;
        for notice in &manifest.notices {
            let path = directory.join(&notice.name);
            let content = fs::read(&path).map_err(|e| unreadable(&path, e))?;
            notice
                .verify(&content)
                .map_err(|e| e.at(directory.display()))?;
        }
        let texts = manifest
            .files
            .iter()
            .map(|file| Ok((file.name.clone(), read(&file.name)?)));
        Ok(Self {
            texts: texts.collect::<Result<_>>()?,
            directory: directory.to_owned(),
            manifest,
        })
    }

    /// The content of one of the manifest's files.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.texts.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str())
    }

    /// Hands on every shard in order, each checked before it is inflated.
    pub fn read_shards(&self, mut take: impl FnMut(Piece) -> Result<()>) -> Result<()> {
        let mut chunk = vec![0; CHUNK];
        for shard in &self.manifest.shards {
            let stored = self.read_stored(&shard.stored)?;
            shard.stored.verify(&stored)?;
            take(Piece::Shard(&shard.stored.name))?;
            let mut inflated = GzDecoder::new(&stored[..]);
            loop {
                match inflated.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => take(Piece::Bytes(&chunk[..n]))?,
                    Err(e) => {
                        let name = &shard.stored.name;
                        let message = format!("{name}: cannot be inflated: {e}");
                        return Err(Error::new(ErrorKind::Integrity, message).caused_by(e));
                    }
                }
            }
        }
        Ok(())
    }

    fn read_stored(&self, entry: &FileEntry) -> Result<Vec<u8>> {
        let path = self.directory.join(&entry.name);
        let file = File::open(&path).map_err(|e| unreadable(&path, e))?;
        let mut stored = Vec::new();
        // One byte more than a shard may have shows that a file is too long.
        let mut bounded = file.take(SHARD_BYTES + 1);
        bounded
            .read_to_end(&mut stored)
            .map_err(|e| unreadable(&path, e))?;
        Ok(stored)
    }
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let message = format!("{}: {e}", path.display());
    match e.kind() {
        IoErrorKind::NotFound | IoErrorKind::PermissionDenied => Error::invalid_argument(message),
        _ => Error::not_a_model(message),
    }
    .caused_by(e)
}
