//! The pack's directory, while it is being made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smollm_web::weights::pack::{FileEntry, MANIFEST, Manifest, SHARD_BYTES};
use smollm_web::{Error, ErrorKind, Result};

/// The directory that must not stay where it is when the user interrupts. Locked whenever a file is written or moved: an
/// interruption comes before that or after it.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What a shell sees of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A directory under another name, which takes its place only when everything is well.
pub struct Output {
    target: PathBuf,
    /// Where it is made.
    partial: PathBuf,
    /// Where the pack that it replaces goes for a moment.
    replaced: PathBuf,
}

impl Output {
    /// Refuses a target with anything but a pack in it. From here on Ctrl-C removes what was made before it ends the
    /// process; there is one output a process.
    pub fn begin(target: &Path) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| {
            Error::invalid_argument(format!("{}: is no directory to make", target.display()))
        })?;
        if target.exists() && !target.join(MANIFEST).is_file() {
            let mut entries = fs::read_dir(target).map_err(|e| failed(target, e))?;
            if entries.next().is_some() {
                return Err(Error::invalid_argument(format!(
                    "{}: is neither empty nor a pack",
                    target.display()
                )));
            }
        }
        let beside = |what: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{what}-{}", process::id()));
            target.with_file_name(hidden)
        };
        let (partial, replaced) = (beside("partial"), beside("replaced"));
        ctrlc::set_handler(interrupted)
            .map_err(|e| Error::invalid_argument(format!("Ctrl-C: {e}")).caused_by(e))?;
        let mut unfinished = unfinished();
        fs::create_dir_all(&partial).map_err(|e| failed(&partial, e))?;
        *unfinished = Some(partial.clone());
        Ok(Self {
            target: target.to_owned(),
            partial,
            replaced,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.partial
    }

    /// Writes a file, and says how the manifest lists it.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<FileEntry> {
        write(&self.partial.join(name), content)?;
        Ok(FileEntry::of(name, content))
    }

    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        write(&self.partial.join(MANIFEST), manifest.to_text()?.as_bytes())
    }

    /// Puts the pack in its place.
    pub fn finish(self) -> Result<()> {
        let Self {
            target,
            partial,
            replaced,
        } = &self;
        let mut unfinished = unfinished();
        let replaces = target.exists();
        if replaces {
            fs::rename(target, replaced).map_err(|e| failed(target, e))?;
        }
        if let Err(e) = fs::rename(partial, target) {
            if replaces {
                // The old pack is better than none; which of two failures to tell is clear.
                let _ = fs::rename(replaced, target);
            }
            return Err(failed(target, e));
        }
        *unfinished = None;
        if replaces {
            fs::remove_dir_all(replaced).map_err(|e| failed(replaced, e))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(partial) = unfinished().take() {
            let _ = fs::remove_dir_all(partial);
        }
    }
}

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn interrupted() {
    // Held to the end: nothing is written any more.
    let mut unfinished = unfinished();
    if let Some(partial) = unfinished.take() {
        let _ = fs::remove_dir_all(partial);
    }
    process::exit(INTERRUPTED);
}

/// Cuts a stream of bytes into shards.
pub struct ShardWriter {
    directory: PathBuf,
    bytes: Vec<u8>,
    entries: Vec<FileEntry>,
}

impl ShardWriter {
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            bytes: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = SHARD_BYTES as usize - self.bytes.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = rest;
            if now.len() == room {
                self.end_shard()?;
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Vec<FileEntry>> {
        if !self.bytes.is_empty() {
            self.end_shard()?;
        }
        Ok(self.entries)
    }

    fn end_shard(&mut self) -> Result<()> {
        let name = format!("weights-{:05}.bin", self.entries.len() + 1);
        write(&self.directory.join(&name), &self.bytes)?;
        self.entries.push(FileEntry::of(name, &self.bytes));
        self.bytes.clear();
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let _unfinished = unfinished();
    fs::write(path, content).map_err(|e| failed(path, e))
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        _ => ErrorKind::InvalidArgument,
    };
    Error::new(kind, format!("{}: {e}", path.display())).caused_by(e)
}
