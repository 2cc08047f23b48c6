//! The model that is quantized: a checkpoint's directory or a GGUF file.

use std::fs::{self, File};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use smollm_web::loader::{
    CheckpointTexts, LoadOptions, LoadedModel, Loader, ModelTexts, texts_of_gguf,
};
use smollm_web::model::Precision;
use smollm_web::weights::pack::FileEntry;
use smollm_web::weights::safetensors::shard_names;
use smollm_web::weights::{
    GgufHeader, GgufReader, GgufSink, SafetensorsReader, TensorInfo, TensorSink,
};
use smollm_web::{Error, ModelConfig, Result};

const CHUNK: usize = 1 << 20;

/// All that a pack needs besides the tensors.
pub struct SourceModel {
    pub config: ModelConfig,
    pub name: Option<String>,
    pub licence: Option<String>,
    pub origin: Option<String>,
    pub texts: Vec<(&'static str, String)>,
    pub weights: Vec<FileEntry>,
}

/// Hands the model's tensors to `sink`, file by file.
pub fn read(path: &Path, sink: &mut dyn TensorSink) -> Result<SourceModel> {
    let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
    if metadata.is_dir() {
        read_checkpoint(path, sink)
    } else {
        read_gguf(path, sink)
    }
}

/// The model, to run it. Float weights are held in eight bits: large models would not fit otherwise.
pub fn load(path: &Path) -> Result<LoadedModel> {
    let options = LoadOptions {
        precision: Precision::Int8,
        ..LoadOptions::default()
    };
    let at = |e: Error| e.at(path.display());
    if !path.is_dir() {
        let mut loader = Loader::gguf(options);
        feed(path, &bar("loading", &[path.to_owned()])?, |bytes| {
            loader.feed(bytes)
        })?;
        return loader.finish().map_err(at);
    }
    let texts = checkpoint_texts(path)?;
    let text_of = |name: &str| {
        let found = texts.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_str())
    };
    let mut loader =
        Loader::safetensors(&CheckpointTexts::from_files(text_of).map_err(at)?, options)
            .map_err(at)?;
    let (names, paths) = checkpoint_weights(path)?;
    let progress = bar("loading", &paths)?;
    for (name, path) in names.iter().zip(&paths) {
        loader.begin_file(name)?;
        feed(path, &progress, |bytes| loader.feed(bytes))?;
    }
    loader.finish().map_err(at)
}

fn read_gguf(path: &Path, sink: &mut dyn TensorSink) -> Result<SourceModel> {
    let mut taker = GgufTaker { sink, header: None };
    let mut reader = GgufReader::new();
    let at = |e: Error| e.at(path.display());
    let entry = feed(path, &bar("quantizing", &[path.to_owned()])?, |bytes| {
        reader.feed(bytes, &mut taker).map_err(at)
    })?;
    reader.finish().map_err(at)?;
    let GgufHeader {
        config,
        mut metadata,
        ..
    } = taker
        .header
        .ok_or_else(|| at(Error::not_a_model("the file has no header")))?;
    let said = |metadata: &smollm_web::config::Metadata, key| {
        metadata
            .string(key)
            .map(|text| text.map(str::to_owned))
            .map_err(at)
    };
    let licence = said(&metadata, "general.license")?;
    let origin = match said(&metadata, "general.source.url")? {
        None => said(&metadata, "general.url")?,
        url => url,
    };
    let ModelTexts { name, files } = texts_of_gguf(&mut metadata, &config).map_err(at)?;
    Ok(SourceModel {
        config,
        name,
        licence,
        origin,
        texts: files,
        weights: vec![entry],
    })
}

/// Keeps the header, hands the tensors on.
struct GgufTaker<'a> {
    sink: &'a mut dyn TensorSink,
    header: Option<GgufHeader>,
}

impl TensorSink for GgufTaker<'_> {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        self.sink.tensor(info, data)
    }
}

impl GgufSink for GgufTaker<'_> {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        self.header = Some(header);
        Ok(())
    }
}

/// The small files of a checkpoint's directory.
fn checkpoint_texts(directory: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut texts = Vec::new();
    for (name, required) in CheckpointTexts::FILES {
        match read_text(&directory.join(name))? {
            Some(text) => texts.push((name, text)),
            None if required => {
                return Err(Error::not_a_model(format!(
                    "{}: the checkpoint has no {name}",
                    directory.display()
                )));
            }
            None => {}
        }
    }
    Ok(texts)
}

/// Names and paths of a checkpoint's weights, in order.
fn checkpoint_weights(directory: &Path) -> Result<(Vec<String>, Vec<PathBuf>)> {
    let names = match read_text(&directory.join("model.safetensors.index.json"))? {
        Some(index) => shard_names(&index).map_err(|e| e.at(directory.display()))?,
        None => vec!["model.safetensors".to_owned()],
    };
    let paths = names.iter().map(|name| directory.join(name)).collect();
    Ok((names, paths))
}

fn read_checkpoint(directory: &Path, sink: &mut dyn TensorSink) -> Result<SourceModel> {
    let mut texts = checkpoint_texts(directory)?;
    // The manifest has the config.
    let (_, config) = texts.remove(0);
    let config = ModelConfig::from_json(&config).map_err(|e| e.at(directory.display()))?;
    let (names, paths) = checkpoint_weights(directory)?;
    let progress = bar("quantizing", &paths)?;
    let mut reader = SafetensorsReader::new(config.clone());
    let mut weights = Vec::new();
    for (name, path) in names.iter().zip(&paths) {
        reader.begin_file(name)?;
        weights.push(feed(path, &progress, |bytes| reader.feed(bytes, sink))?);
    }
    reader.finish()?;
    Ok(SourceModel {
        config,
        name: None,
        licence: None,
        origin: None,
        texts,
        weights,
    })
}

/// Licence and notices, from beside the weights; where there is no licence and the model says that it is Apache-2.0,
/// that licence's text.
pub fn notices(path: &Path, licence: Option<&str>) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let directory = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new("."))
    };
    let mut found = Vec::new();
    for name in ["LICENSE", "NOTICE"] {
        // Hubs have them as text files, too.
        for spelling in [name.to_owned(), format!("{name}.txt"), format!("{name}.md")] {
            let path = directory.join(spelling);
            if path.is_file() {
                found.push((name, fs::read(&path).map_err(|e| unreadable(&path, e))?));
                break;
            }
        }
    }
    let apache = licence.is_some_and(|licence| licence.eq_ignore_ascii_case("apache-2.0"));
    if apache && !found.iter().any(|(name, _)| *name == "LICENSE") {
        found.push(("LICENSE", include_bytes!("../../../../LICENSE").to_vec()));
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == IoErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(path, e)),
    }
}

/// Hands on a file's bytes, and says what file it was.
fn feed(
    path: &Path,
    progress: &ProgressBar,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<FileEntry> {
    let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&chunk[..n]);
                take(&chunk[..n])?;
                bytes += n as u64;
                progress.inc(n as u64);
            }
            Err(e) if e.kind() == IoErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(path, e)),
        }
    }
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    Ok(FileEntry::from_digest(name, bytes, &hash.finalize()))
}

/// A bar over all files; indicatif shows none where there is no terminal.
fn bar(what: &str, paths: &[PathBuf]) -> Result<ProgressBar> {
    let sizes = paths.iter().map(|path| {
        let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
        Ok(metadata.len())
    });
    let template = format!("{what} {{bar:40}} {{bytes}}/{{total_bytes}} {{eta}}");
    let style = ProgressStyle::with_template(&template).expect("a constant template");
    Ok(ProgressBar::new(sizes.sum::<Result<u64>>()?).with_style(style))
}

fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let message = format!("{}: {e}", path.display());
    match e.kind() {
        IoErrorKind::NotFound | IoErrorKind::PermissionDenied => Error::invalid_argument(message),
        _ => Error::not_a_model(message),
    }
    .caused_by(e)
}
