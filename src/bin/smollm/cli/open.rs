//! Models on disk: a pack, a `.gguf` file, a Hugging Face checkpoint directory, or a directory with one
//! `.gguf` file. Bytes go to the loader as they come, so no file is ever held whole.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use smollm_web::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use smollm_web::weights::pack::MANIFEST;
use smollm_web::{Error, Result, kernels, model};

use super::pack_dir::PackDir;

/// What every subcommand is told about its model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A pack, a .gguf file or a Hugging Face checkpoint directory
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Threads to compute with; all that the machine has, unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// How to hold float weights; quantized ones keep their own grid
    #[arg(long, value_enum, default_value_t = Precision::Source)]
    precision: Precision,
    /// Positions to make room for; the model's own, at most 2048, unless told
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    /// As the file holds them
    Source,
    /// Eight bits
    Int8,
}

const CHUNK: usize = 1 << 20;

/// Loads the model, with a progress bar if that takes more than a second at a terminal.
pub fn load(args: &ModelArgs) -> Result<LoadedModel> {
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    kernels::set_threads(threads);
    let options = LoadOptions {
        precision: match args.precision {
            Precision::Source => model::Precision::Source,
            Precision::Int8 => model::Precision::Int8,
        },
        context_length: args.context_length,
        ..LoadOptions::default()
    };
    let path = args.model.as_path();
    let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
    if !metadata.is_dir() {
        return load_gguf(path, options);
    }
    if path.join(MANIFEST).is_file() {
        return load_pack(path, options);
    }
    if path.join("config.json").is_file() {
        return load_checkpoint(path, options);
    }
    load_gguf(&only_gguf(path)?, options)
}

fn load_gguf(path: &Path, options: LoadOptions) -> Result<LoadedModel> {
    let mut loader = Loader::gguf(options);
    feed_files(&mut loader, &[path.to_owned()])?;
    loader.finish()
}

fn load_pack(directory: &Path, options: LoadOptions) -> Result<LoadedModel> {
    let at = |e: Error| e.at(directory.display());
    let pack = PackDir::open(directory)?;
    let mut loader = Loader::pack(&pack.manifest, |name| pack.text(name), options).map_err(at)?;
    let bytes = pack.manifest.shards.iter().map(|shard| shard.bytes);
    let mut progress = LoadProgress::new(bytes.sum());
    pack.read_shards(|name, bytes| {
        progress.advance(bytes.len() as u64);
        loader.begin_file(name)?;
        loader.feed(bytes)
    })
    .map_err(at)?;
    progress.finish();
    loader.finish().map_err(at)
}

fn load_checkpoint(directory: &Path, options: LoadOptions) -> Result<LoadedModel> {
    let mut texts = Vec::new();
    for (name, _) in CheckpointTexts::FILES {
        let path = directory.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => texts.push((name, text)),
            Err(e) if e.kind() == IoErrorKind::NotFound => {}
            Err(e) => return Err(unreadable(&path, e)),
        }
    }
    let text_of = |name: &str| {
        let found = texts.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_str())
    };
    let texts = CheckpointTexts::from_files(text_of).map_err(|e| e.at(directory.display()))?;
    let mut loader = Loader::safetensors(&texts, options).map_err(|e| e.at(directory.display()))?;
    feed_files(&mut loader, &weight_files(directory)?)?;
    loader.finish()
}

/// The checkpoint's `model.safetensors`, or the shards that its index names, in order.
fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let index = directory.join("model.safetensors.index.json");
    let text = match fs::read_to_string(&index) {
        Ok(text) => text,
        Err(e) if e.kind() == IoErrorKind::NotFound => {
            return Ok(vec![directory.join("model.safetensors")]);
        }
        Err(e) => return Err(unreadable(&index, e)),
    };
    let malformed = |what: &str| Error::not_a_model(format!("{}: {what}", index.display()));
    let json: Value =
        serde_json::from_str(&text).map_err(|e| malformed("not valid JSON").caused_by(e))?;
    let map = json["weight_map"]
        .as_object()
        .ok_or_else(|| malformed("weight_map is missing"))?;
    let names = map
        .values()
        .map(|name| name.as_str().filter(|name| !name.contains(['/', '\\'])))
        .collect::<Option<BTreeSet<_>>>()
        .ok_or_else(|| malformed("weight_map: expected file names"))?;
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

fn only_gguf(directory: &Path) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|e| unreadable(directory, e))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
        })
        .collect();
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (Some(_), more) => Err(Error::invalid_argument(format!(
            "{}: has {} .gguf files: name one of them",
            directory.display(),
            more + 1
        ))),
        (None, _) => Err(Error::not_a_model(format!(
            "{}: has neither a config.json nor a .gguf file",
            directory.display()
        ))),
    }
}

fn feed_files(loader: &mut Loader, paths: &[PathBuf]) -> Result<()> {
    let sizes = paths.iter().map(|path| {
        let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
        Ok(metadata.len())
    });
    let mut progress = LoadProgress::new(sizes.sum::<Result<u64>>()?);
    let mut chunk = vec![0; CHUNK];
    for path in paths {
        let name = path.file_name().unwrap_or(path.as_os_str());
        loader.begin_file(&name.to_string_lossy())?;
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    loader.feed(&chunk[..n])?;
                    progress.advance(n as u64);
                }
                Err(e) if e.kind() == IoErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(path, e)),
            }
        }
    }
    progress.finish();
    Ok(())
}

/// A bar that stays away from those who need not wait, and from logs.
struct LoadProgress {
    total: u64,
    done: u64,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl LoadProgress {
    const PATIENCE: Duration = Duration::from_secs(1);

    fn new(total: u64) -> Self {
        Self {
            total,
            done: 0,
            since: Instant::now(),
            bar: None,
        }
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.bar.is_none()
            && self.since.elapsed() > Self::PATIENCE
            && std::io::stderr().is_terminal()
        {
            let style = ProgressStyle::with_template(
                "loading {bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec}",
            )
            .expect("a constant template");
            self.bar = Some(ProgressBar::new(self.total).with_style(style));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
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
