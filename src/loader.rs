//! From a model's bytes to everything a session needs: weights, tokenizer, template, end tokens.
//!
//! The host pushes bytes as it gets them and does all the waiting; nothing here reads files or
//! sockets. Everything but the weights is built, and refused, before the first weight is read.

mod language;
mod texts;

use crate::config::ModelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::int4::PackedMatrix;
use crate::model::{Model, ModelBuilder, Precision};
use crate::registry::{ModelEntry, SamplingDefaults};
use crate::token::TokenId;
use crate::tokenizer::{ChatTemplate, Tokenizer};
use crate::weights::pack::{MANIFEST, Manifest};
use crate::weights::{
    GgufHeader, GgufReader, GgufSink, PackReader, PackedInfo, Progress, SafetensorsReader,
    TensorInfo, TensorSink,
};
use language::Language;
pub use texts::{ModelTexts, texts_of_gguf};

/// What the host chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What becomes of float weights.
    pub precision: Precision,
    /// Positions to make room for. `None`: the model's own, at most [`DEFAULT_CONTEXT`].
    pub context_length: Option<usize>,
    /// The model's name, where the host knows better than the files.
    pub name: Option<String>,
}

impl LoadOptions {
    /// Positions to make room for, in a model of `config`.
    ///
    /// # Errors
    /// `invalid_argument` for none, and for more than the model's own.
    pub fn positions(&self, config: &ModelConfig) -> Result<usize> {
        let most = config.max_position_embeddings;
        match self.context_length {
            None => Ok(most.min(DEFAULT_CONTEXT)),
            Some(0) => Err(Error::invalid_argument("context_length: 0 is too short")),
            Some(wanted) if wanted > most => Err(Error::invalid_argument(format!(
                "context_length: {wanted} is more than the model's {most}"
            ))),
            Some(wanted) => Ok(wanted),
        }
    }
}

/// The most positions a session gets unasked: their keys and values take 37 MB in the 135M models; SmolLM2's 8,192
/// would take 147 MB, SmolLM3's 65,536 gigabytes.
pub const DEFAULT_CONTEXT: usize = 2048;

/// A model, ready to talk.
pub struct LoadedModel {
    /// The weights.
    pub model: Model,
    /// Its vocabulary.
    pub tokenizer: Tokenizer,
    /// How conversations become prompts.
    pub template: ChatTemplate,
    /// The tokens that end an answer, none twice.
    pub end_tokens: Vec<TokenId>,
    /// A name for people.
    pub name: String,
    /// How to sample where the caller does not say.
    pub sampling: SamplingDefaults,
    /// Positions to make room for; at most the model's own.
    pub context_length: usize,
    /// The known model this is, if it is one.
    pub known: Option<&'static ModelEntry>,
}

/// The small files of a Hugging Face checkpoint, as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointTexts<'a> {
    /// `config.json`.
    pub config: &'a str,
    /// `tokenizer.json`.
    pub tokenizer: &'a str,
    /// `tokenizer_config.json`: older checkpoints' template, names of tokens.
    pub tokenizer_config: Option<&'a str>,
    /// `generation_config.json`: end tokens, sampling.
    pub generation_config: Option<&'a str>,
    /// `chat_template.jinja`: newer checkpoints' template.
    pub chat_template: Option<&'a str>,
}

impl<'a> CheckpointTexts<'a> {
    /// The names of the files, and whether a checkpoint must have them.
    pub const FILES: [(&'static str, bool); 5] = [
        ("config.json", true),
        ("tokenizer.json", true),
        ("tokenizer_config.json", false),
        ("generation_config.json", false),
        ("chat_template.jinja", false),
    ];

    /// Collects the texts from wherever the host has them.
    ///
    /// # Errors
    /// `not_a_model` naming a file that must be there and is not.
    pub fn from_files(text_of: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let need = |name| {
            text_of(name).ok_or_else(|| Error::not_a_model(format!("the checkpoint has no {name}")))
        };
        Ok(Self {
            config: need("config.json")?,
            tokenizer: need("tokenizer.json")?,
            tokenizer_config: text_of("tokenizer_config.json"),
            generation_config: text_of("generation_config.json"),
            chat_template: text_of("chat_template.jinja"),
        })
    }
}

/// Loads one model from pushed bytes.
///
/// 1. [`Loader::gguf`], or [`Loader::safetensors`] with the checkpoint's small files.
/// 2. [`begin_file`](Loader::begin_file) before each file (optional where there is only one), then
///    [`feed`](Loader::feed) with its bytes in chunks of any size.
/// 3. [`finish`](Loader::finish).
///
/// After an error the loader is of no more use; drop it and start another.
pub struct Loader {
    source: Source,
    assembly: Assembly,
}

enum Source {
    Gguf {
        reader: GgufReader,
        file: Option<String>,
    },
    Safetensors(Box<SafetensorsReader>),
    Pack(Box<PackReader>),
}

/// What comes into being while the bytes pass.
struct Assembly {
    options: LoadOptions,
    config: Option<ModelConfig>,
    language: Option<Language>,
    builder: Option<ModelBuilder>,
}

impl Loader {
    /// Loads a GGUF file; config, vocabulary and template are in it.
    pub fn gguf(options: LoadOptions) -> Self {
        Self {
            source: Source::Gguf {
                reader: GgufReader::new(),
                file: None,
            },
            assembly: Assembly {
                options,
                config: None,
                language: None,
                builder: None,
            },
        }
    }

    /// Loads a Hugging Face checkpoint, whose small files must be there before the weights.
    ///
    /// # Errors
    /// Those of [`ModelConfig::from_json`], [`Tokenizer::from_json`] and [`ChatTemplate::new`], and
    /// `not_a_model` where the files contradict each other, all naming the file.
    pub fn safetensors(texts: &CheckpointTexts, options: LoadOptions) -> Result<Self> {
        let config = ModelConfig::from_json(texts.config)?;
        let language = Language::from_checkpoint(texts, &config, &options)?;
        let mut assembly = Assembly {
            options,
            config: None,
            language: None,
            builder: None,
        };
        let reader = SafetensorsReader::new(config.clone());
        assembly.begin(config, language);
        Ok(Self {
            source: Source::Safetensors(Box::new(reader)),
            assembly,
        })
    }

    /// Loads a pack. Its shards are then fed, each after [`begin_file`](Loader::begin_file); that their bytes are
    /// those of the manifest is the host's to see, with
    /// [`FileEntry::verify`](crate::weights::pack::FileEntry::verify).
    ///
    /// `text_of` gives the files that the manifest lists, by name.
    ///
    /// # Errors
    /// `integrity` for a listed file that is missing or not the one that is meant, `not_a_model` where the manifest's
    /// tensors are not those of its config, and those of [`Loader::safetensors`]; all name the file.
    pub fn pack<'a>(
        manifest: &Manifest,
        text_of: impl Fn(&str) -> Option<&'a str>,
        mut options: LoadOptions,
    ) -> Result<Self> {
        let config = manifest.model_config()?;
        for file in &manifest.files {
            let text = text_of(&file.name).ok_or_else(|| {
                Error::new(ErrorKind::Integrity, format!("{}: is missing", file.name))
            })?;
            file.verify(text.as_bytes())?;
        }
        // What the manifest does not list is not part of the pack.
        let listed = |name: &str| {
            let file = manifest.files.iter().find(|file| file.name == name)?;
            text_of(&file.name)
        };
        let texts = CheckpointTexts {
            config: "",
            tokenizer: listed("tokenizer.json").ok_or_else(|| {
                Error::not_a_model(format!("{MANIFEST}: lists no tokenizer.json"))
            })?,
            tokenizer_config: listed("tokenizer_config.json"),
            generation_config: listed("generation_config.json"),
            chat_template: listed("chat_template.jinja"),
        };
        options.name = options.name.or_else(|| manifest.name.clone());
        let language = Language::from_checkpoint(&texts, &config, &options)?;
        let reader = PackReader::new(manifest, config.clone())?;
        let mut assembly = Assembly {
            options,
            config: None,
            language: None,
            builder: None,
        };
        assembly.begin(config, language);
        Ok(Self {
            source: Source::Pack(Box::new(reader)),
            assembly,
        })
    }

    /// Begins the file `name`: errors are going to name it, and the one before must be complete.
    ///
    /// # Errors
    /// `not_a_model` where the file before is too short, `invalid_argument` for a second GGUF file.
    pub fn begin_file(&mut self, name: &str) -> Result<()> {
        match &mut self.source {
            Source::Safetensors(reader) => reader.begin_file(name),
            Source::Pack(reader) => reader.begin_shard(name),
            Source::Gguf { reader, file } => {
                if file.is_some() || reader.progress().bytes_seen > 0 {
                    return Err(Error::invalid_argument(format!(
                        "{name}: a gguf model in several files is not supported"
                    )));
                }
                *file = Some(name.into());
                Ok(())
            }
        }
    }

    /// Takes the next bytes of the file at hand.
    ///
    /// # Errors
    /// `not_a_model`, `unsupported_architecture`, `unsupported_quantization` or `out_of_memory`,
    /// naming the file and the key or tensor.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<()> {
        match &mut self.source {
            Source::Safetensors(reader) => reader.feed(chunk, &mut self.assembly),
            Source::Pack(reader) => reader.feed(chunk, &mut self.assembly),
            Source::Gguf { reader, file } => reader
                .feed(chunk, &mut self.assembly)
                .map_err(|e| at_file(e, file.as_deref())),
        }
    }

    /// How far the files are read.
    pub fn progress(&self) -> Progress {
        match &self.source {
            Source::Gguf { reader, .. } => reader.progress(),
            Source::Safetensors(reader) => reader.progress(),
            Source::Pack(reader) => reader.progress(),
        }
    }

    /// The model's numbers: from the beginning for a checkpoint, after the header for a GGUF file.
    pub fn config(&self) -> Option<&ModelConfig> {
        self.assembly.config.as_ref()
    }

    /// Says that the last file has ended, and gives the model.
    ///
    /// # Errors
    /// `not_a_model` where bytes or tensors are missing.
    pub fn finish(self) -> Result<LoadedModel> {
        match self.source {
            Source::Safetensors(reader) => reader.finish()?,
            Source::Pack(reader) => reader.finish()?,
            Source::Gguf { reader, file } => {
                reader.finish().map_err(|e| at_file(e, file.as_deref()))?;
            }
        }
        let (Some(builder), Some(language)) = (self.assembly.builder, self.assembly.language)
        else {
            return Err(Error::not_a_model("the file has no header"));
        };
        Ok(LoadedModel {
            model: builder.finish()?,
            tokenizer: language.tokenizer,
            template: language.template,
            end_tokens: language.end_tokens,
            name: language.name,
            sampling: language.sampling,
            context_length: language.context_length,
            known: language.known,
        })
    }
}

fn at_file(e: Error, file: Option<&str>) -> Error {
    match file {
        Some(name) => e.at(name),
        None => e,
    }
}

impl Assembly {
    /// Config and language are there; weights may come.
    fn begin(&mut self, config: ModelConfig, language: Language) {
        self.builder = Some(ModelBuilder::new(config.clone(), self.options.precision));
        self.config = Some(config);
        self.language = Some(language);
    }
}

impl TensorSink for Assembly {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        match &mut self.builder {
            Some(builder) => builder.tensor(info, data),
            None => Err(Self::no_builder(&info.name)),
        }
    }

    fn packed(&mut self, info: &PackedInfo, matrix: PackedMatrix) -> Result<()> {
        match &mut self.builder {
            Some(builder) => builder.packed(info, matrix),
            None => Err(Self::no_builder(&info.name)),
        }
    }
}

impl Assembly {
    fn no_builder(name: &str) -> Error {
        Error::not_a_model(format!("tensor {name}: stands before the header's end"))
    }
}

impl GgufSink for Assembly {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        let GgufHeader {
            config,
            mut metadata,
            ..
        } = header;
        let language = Language::from_gguf(&mut metadata, &config, &self.options)?;
        self.begin(config, language);
        Ok(())
    }
}
