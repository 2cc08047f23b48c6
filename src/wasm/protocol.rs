//! The JSON that crosses into JavaScript and out, as `js/engine.js` and `js/loader.js` know it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::instruct::Fields;
use crate::kernels;
use crate::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use crate::model::Precision;
use crate::session::Step;
use crate::survey::Survey;
use crate::token::TokenId;
use crate::tokenizer::Tokenizer;
use crate::weights::pack::{MANIFEST, Manifest};

/// Reads `{"format": "gguf" | "safetensors" | "pack", "context_length"?, "precision"?: "source" | "int8", "name"?,
/// "files"?: {name: text}}` and begins to load; `files` are a checkpoint's small ones, or a pack's with its manifest.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the field, and those of [`Loader`].
pub(super) fn begin_load(spec: &str) -> Result<Loader> {
    let Spec {
        format,
        options,
        files,
    } = Spec::read(spec)?;
    let text_of = |name: &str| files.get(name).map(String::as_str);
    match format {
        Format::Gguf => Ok(Loader::gguf(options)),
        Format::Checkpoint => {
            let texts = CheckpointTexts::from_files(text_of)?;
            Loader::safetensors(&texts, options)
        }
        Format::Pack => Loader::pack(&manifest(&files)?, text_of, options),
    }
}

/// Reads the same, and finds out what loading would take: `None` of a GGUF file, whose beginning has to be there.
///
/// # Errors
/// As [`begin_load`]; of `files`, the manifest or `config.json` alone is looked at.
pub(super) fn survey(spec: &str) -> Result<(LoadOptions, Option<Survey>)> {
    let Spec {
        format,
        options,
        files,
    } = Spec::read(spec)?;
    let survey = match format {
        Format::Gguf => None,
        Format::Checkpoint => {
            let config = files
                .get("config.json")
                .ok_or_else(|| Error::not_a_model("the checkpoint has no config.json"))?;
            Some(Survey::checkpoint(config, options.clone())?)
        }
        Format::Pack => Some(Survey::pack(&manifest(&files)?, options.clone())?),
    };
    Ok((options, survey))
}

struct Spec {
    format: Format,
    options: LoadOptions,
    files: BTreeMap<String, String>,
}

enum Format {
    Gguf,
    Checkpoint,
    Pack,
}

impl Spec {
    fn read(spec: &str) -> Result<Self> {
        let mut fields = Fields::parse(spec)?;
        let format = match Fields::required("format", fields.text("format")?)?.as_str() {
            "gguf" => Format::Gguf,
            "safetensors" => Format::Checkpoint,
            "pack" => Format::Pack,
            other => {
                return Err(Error::invalid_argument(format!(
                    "format: expected gguf, safetensors or pack, found {other:?}"
                )));
            }
        };
        let options = LoadOptions {
            precision: match fields.text("precision")?.as_deref() {
                None => Precision::default(),
                Some("source") => Precision::Source,
                Some("int8") => Precision::Int8,
                Some(other) => {
                    return Err(Error::invalid_argument(format!(
                        "precision: expected source or int8, found {other:?}"
                    )));
                }
            },
            context_length: fields.count("context_length")?,
            name: fields.text("name")?,
        };
        let files = files(fields.any("files"))?;
        fields.finish()?;
        Ok(Self {
            format,
            options,
            files,
        })
    }
}

fn manifest(files: &BTreeMap<String, String>) -> Result<Manifest> {
    let text = files
        .get(MANIFEST)
        .ok_or_else(|| Error::invalid_argument(format!("files: {MANIFEST} is not among them")))?;
    Manifest::parse(text)
}

fn files(value: Option<Value>) -> Result<BTreeMap<String, String>> {
    match value {
        None => Ok(BTreeMap::new()),
        Some(value) => serde_json::from_value(value)
            .map_err(|e| Error::invalid_argument(format!("files: {e}")).caused_by(e)),
    }
}

/// What there is to tell about a loaded model; `engine.info` shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Info {
    model: String,
    architecture: &'static str,
    parameters: u64,
    quantization: &'static str,
    context_length: usize,
    kernel: &'static str,
    /// Bytes that the weights take.
    weight_bytes: usize,
    /// Bytes that the whole engine takes: weights, cache, tokenizer, and what loading took for a while,
    /// since wasm memory never shrinks.
    memory_bytes: usize,
}

impl Info {
    pub(super) fn new(loaded: &LoadedModel) -> Self {
        Self {
            model: loaded.name.clone(),
            architecture: loaded.model.config().architecture.name(),
            parameters: loaded.model.parameters(),
            quantization: loaded.model.quantization(),
            context_length: loaded.context_length,
            kernel: kernels::name(),
            weight_bytes: loaded.model.weight_bytes(),
            memory_bytes: 0,
        }
    }

    /// As JSON, with the memory taken now.
    pub(super) fn to_json(&self) -> String {
        let now = Self {
            memory_bytes: super::memory_bytes(),
            ..self.clone()
        };
        to_json(&now)
    }
}

/// One step as JSON. Where log-probabilities were asked for, tokens come with their text and bytes, as
/// OpenAI's API has them: a token alone may be half a character.
pub(super) fn step(step: &Step, tokenizer: &Tokenizer) -> String {
    let Step::Token {
        id,
        text,
        logprob: Some(logprob),
        top,
    } = step
    else {
        return to_json(step);
    };
    let top: Vec<Value> = top
        .iter()
        .map(|&(id, logprob)| likely(id, logprob, tokenizer))
        .collect();
    let mut token = likely(*id, *logprob, tokenizer);
    token["type"] = "token".into();
    token["text"] = text.as_str().into();
    token["top_logprobs"] = top.into();
    token.to_string()
}

fn likely(id: TokenId, logprob: f32, tokenizer: &Tokenizer) -> Value {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    json!({
        "id": id.0,
        "token": String::from_utf8_lossy(bytes),
        "bytes": bytes,
        "logprob": logprob,
    })
}

/// Everything sent is strings, numbers and lists of them.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialize")
}
