//! What loading a model will take, found out from the first of its bytes: a pack's manifest, a GGUF file's header, a
//! checkpoint's config.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::loader::LoadOptions;
use crate::model::{Model, Outline};
use crate::session::PREFILL_PIECE;
use crate::weights::pack::Manifest;
use crate::weights::{
    GgufHeader, GgufReader, GgufSink, PackReader, TensorInfo, TensorRole, TensorSink,
};
use serde::Serialize;

/// A model's needs, before it is there.
#[derive(Debug, Clone)]
pub struct Survey {
    options: LoadOptions,
    outline: Outline,
    /// The most bytes that weights and the piece of a file they are made from take at once while they are loaded.
    loading_bytes: u64,
}

/// Bytes of memory that a loaded model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Positions that the cache has room for.
    pub context_length: usize,
    /// As [`Model::weight_bytes`].
    pub weight_bytes: u64,
    /// Keys and values of that many positions.
    pub cache_bytes: u64,
    /// The tokenizer, about.
    pub tokenizer_bytes: u64,
    /// What reading a prompt takes for a while, about.
    pub working_bytes: u64,
    /// What was taken when most was: while the weights were loaded, or after it. Memory of WebAssembly never shrinks.
    pub peak_bytes: u64,
}

/// Surveys a GGUF file by its header, from chunks of any size.
pub struct GgufSurvey {
    reader: GgufReader,
    taken: Taken,
}

struct Taken {
    options: LoadOptions,
    survey: Option<Survey>,
}

impl GgufSurvey {
    /// At the first byte of a file.
    pub fn new(options: LoadOptions) -> Self {
        Self {
            reader: GgufReader::new(),
            taken: Taken {
                options,
                survey: None,
            },
        }
    }

    /// Takes the next bytes; `None` until the header is complete.
    ///
    /// # Errors
    /// As [`GgufReader::feed`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Option<Survey>> {
        self.reader.feed(chunk, &mut self.taken)?;
        Ok(self.taken.survey.take())
    }
}

impl GgufSink for Taken {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        self.survey = Some(Survey::gguf(&header, self.options.clone()));
        Ok(())
    }
}

impl TensorSink for Taken {
    fn tensor(&mut self, _: &TensorInfo, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Texts, merges and the tables in which they are found, for a token: measured on SmolLM2's vocabulary.
const TOKENIZER_BYTES_A_TOKEN: u64 = 160;

/// Of a file, so much is in memory at a time: what hosts feed (`js/pack.js`).
const FED_BYTES: u64 = 4 << 20;

/// Checkpoints of this family hold their weights as bfloat16.
const CHECKPOINT_BYTES_A_WEIGHT: u64 = 2;

impl Survey {
    /// Of a pack.
    ///
    /// # Errors
    /// `not_a_model` where the tensors are not those of the config.
    pub fn pack(manifest: &Manifest, options: LoadOptions) -> Result<Self> {
        let config = manifest.model_config()?;
        let mut outline = Outline::new(config.clone(), options.precision);
        let reader = PackReader::new(manifest, config)?;
        let mut read = Vec::new();
        for (role, bits, bytes) in reader.tensors() {
            if let Some(bits) = bits {
                outline.packed(role, bits);
            }
            read.push((role, bytes));
        }
        Ok(Self::new(outline, read, options))
    }

    /// Of a GGUF file.
    pub fn gguf(header: &GgufHeader, options: LoadOptions) -> Self {
        let mut outline = Outline::new(header.config.clone(), options.precision);
        for &(role, dtype, _) in &header.tensors {
            outline.tensor(role, dtype);
        }
        let read = header.tensors.iter().map(|&(role, _, bytes)| (role, bytes));
        Self::new(outline, read.collect(), options)
    }

    /// Of a Hugging Face checkpoint with this `config.json`.
    ///
    /// # Errors
    /// Those of [`ModelConfig::from_json`].
    pub fn checkpoint(config: &str, options: LoadOptions) -> Result<Self> {
        let config = ModelConfig::from_json(config)?;
        let read = TensorRole::all(&config).map(|role| {
            let weights = role
                .shape(&config)
                .iter()
                .map(|&n| n as u64)
                .product::<u64>();
            (role, CHECKPOINT_BYTES_A_WEIGHT * weights)
        });
        let read = read.collect();
        let outline = Outline::new(config, options.precision);
        Ok(Self::new(outline, read, options))
    }

    /// `read`: the tensors and their bytes, in the order in which they come.
    fn new(outline: Outline, read: Vec<(TensorRole, u64)>, options: LoadOptions) -> Self {
        let mut made = 0;
        let mut most = 0;
        for (role, bytes) in read {
            made += outline.tensor_bytes(role);
            most = most.max(made + bytes);
        }
        Self {
            loading_bytes: FED_BYTES + most.max(outline.weight_bytes() + outline.stacking_bytes()),
            outline,
            options,
        }
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        self.outline.config()
    }

    /// As [`Model::quantization`].
    pub fn quantization(&self) -> &'static str {
        self.outline.quantization()
    }

    /// The memory that the model will take with a context of so many positions, or of as many as the options say.
    ///
    /// # Errors
    /// `invalid_argument` for a context longer than the model's.
    pub fn footprint(&self, positions: Option<usize>) -> Result<Footprint> {
        let config = self.config();
        let wanted = LoadOptions {
            context_length: positions.or(self.options.context_length),
            ..self.options.clone()
        };
        let context_length = wanted.positions(config)?;
        let weight_bytes = self.outline.weight_bytes();
        let cache_bytes = self.outline.cache_bytes(context_length);
        let tokenizer_bytes = TOKENIZER_BYTES_A_TOKEN * config.vocab_size as u64;
        // The widest moment: residual stream, gate, up and their product, and the same as integers; then logits.
        let widths = 4 * config.hidden_size + 4 * config.intermediate_size;
        let piece = PREFILL_PIECE.min(context_length) * widths;
        let working_bytes = (size_of::<f32>() * (piece + 2 * config.vocab_size)) as u64;
        let loaded = (weight_bytes + working_bytes).saturating_add(cache_bytes);
        Ok(Footprint {
            context_length,
            weight_bytes,
            cache_bytes,
            tokenizer_bytes,
            working_bytes,
            peak_bytes: tokenizer_bytes.saturating_add(loaded.max(self.loading_bytes)),
        })
    }

    /// A model of zeros that takes a share of this one's time a token, and that share ([`Outline::stand_in`]).
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn stand_in(&self, bytes: u64) -> Result<(Model, f64)> {
        self.outline.stand_in(bytes)
    }
}
