//! A pack's directory on disk.

use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use smollm_web::weights::pack::{FileEntry, MANIFEST, Manifest, SHARD_BYTES};
use smollm_web::{Error, Result};

/// A pack whose manifest and small files are read.
pub struct PackDir {
    directory: PathBuf,
    pub manifest: Manifest,
    texts: Vec<(String, String)>,
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

    /// Hands on every shard in order, by name and content, each checked before.
    pub fn read_shards(&self, mut take: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        for shard in &self.manifest.shards {
            let stored = self.read_stored(shard)?;
            shard.verify(&stored)?;
            take(&shard.name, &stored)?;
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
