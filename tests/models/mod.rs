//! Models from files, for tests: the committed tiny ones and the real one.
#![allow(dead_code, unused_imports)] // each test file uses its part

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use smollm_web::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use smollm_web::weights::pack::{MANIFEST, Manifest};

pub use common::{project, real_gguf};

pub fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Loads a `.gguf` file or a checkpoint directory.
pub fn load(path: &Path, options: LoadOptions) -> LoadedModel {
    if path.is_dir() {
        load_checkpoint(path, options)
    } else {
        let mut loader = Loader::gguf(options);
        feed(&mut loader, path);
        loader.finish().unwrap()
    }
}

fn load_checkpoint(directory: &Path, options: LoadOptions) -> LoadedModel {
    let texts: Vec<(&str, String)> = CheckpointTexts::FILES
        .iter()
        .filter_map(|(name, _)| Some((*name, fs::read_to_string(directory.join(name)).ok()?)))
        .collect();
    let text_of = |name: &str| {
        let found = texts.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_str())
    };
    let texts = CheckpointTexts::from_files(text_of).unwrap();
    let mut loader = Loader::safetensors(&texts, options).unwrap();
    let shards: BTreeSet<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    assert!(!shards.is_empty());
    for shard in shards {
        loader.begin_file(&shard.display().to_string()).unwrap();
        feed(&mut loader, &shard);
    }
    loader.finish().unwrap()
}

fn feed(loader: &mut Loader, path: &Path) {
    // An odd size, so that tensors and header are cut anywhere.
    for chunk in read(path).chunks(1_000_003) {
        loader.feed(chunk).unwrap();
    }
}

/// Loads a pack as the browser does: every shard is verified, then fed in pieces of `chunk` bytes.
pub fn load_pack(directory: &Path, chunk: usize) -> LoadedModel {
    let text = |name: &str| String::from_utf8(read(directory.join(name))).unwrap();
    let manifest = Manifest::parse(&text(MANIFEST)).unwrap();
    let texts: Vec<_> = manifest
        .files
        .iter()
        .map(|file| (&file.name, text(&file.name)))
        .collect();
    let text_of = |name: &str| {
        let found = texts.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_str())
    };
    let mut loader = Loader::pack(&manifest, text_of, LoadOptions::default()).unwrap();
    for shard in &manifest.shards {
        let stored = read(directory.join(&shard.name));
        shard.verify(&stored).unwrap();
        loader.begin_file(&shard.name).unwrap();
        for piece in stored.chunks(chunk) {
            loader.feed(piece).unwrap();
        }
    }
    let progress = loader.progress();
    assert_eq!(progress.bytes_total, Some(progress.bytes_seen));
    assert_eq!(progress.tensors_done, progress.tensors_total);
    loader.finish().unwrap()
}

/// A float32 tensor of a safetensors file.
pub fn tensor(file: &SafeTensors, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    view.data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}
