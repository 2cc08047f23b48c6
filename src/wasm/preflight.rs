//! What loading a model would take, and how fast it would be, before more than its first bytes are there.

use serde_json::json;
use wasm_bindgen::prelude::*;

use super::{JsResult, protocol, thrown};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{KvCache, Logits, Model};
use crate::survey::{GgufSurvey, Survey};
use crate::token::TokenId;

/// Of a stand-in's weights: too many for a processor's own caches, as real ones are, which 32 MiB are not (they were told to be 1.6
/// times as fast on two threads as the whole model is), and few enough to be there at once.
const STAND_IN_BYTES: u64 = 64 << 20;

/// A look at a model that is not loaded.
#[wasm_bindgen]
pub struct Preflight {
    /// A GGUF file whose header is not complete.
    beginning: GgufSurvey,
    survey: Option<Survey>,
    rehearsal: Option<Rehearsal>,
}

struct Rehearsal {
    model: Model,
    cache: KvCache,
}

#[wasm_bindgen]
impl Preflight {
    /// By `{"format", "context_length"?, "precision"?, "files"?}` as `begin_load` takes it. Of `files` a pack's manifest
    /// is enough, and a checkpoint's `config.json`; a GGUF file's beginning is [`feed`](Self::feed)'s.
    ///
    /// # Errors
    /// `invalid_argument`, and whatever is wrong with `files`.
    #[wasm_bindgen(constructor)]
    pub fn new(spec: &str) -> JsResult<Preflight> {
        let (options, survey) = protocol::survey(spec).map_err(thrown)?;
        Ok(Self {
            beginning: GgufSurvey::new(options),
            survey,
            rehearsal: None,
        })
    }

    /// Takes the next bytes of a GGUF file. Says whether enough is known.
    ///
    /// # Errors
    /// `not_a_model`, `unsupported_architecture`, `unsupported_quantization`.
    pub fn feed(&mut self, chunk: &[u8]) -> JsResult<bool> {
        if self.survey.is_none() {
            self.survey = self.beginning.feed(chunk).map_err(thrown)?;
        }
        Ok(self.survey.is_some())
    }

    /// What the model would take, as JSON: `{"architecture", "parameters", "quantization", "longest_context",
    /// "context_length", "weight_bytes", "cache_bytes", "tokenizer_bytes", "working_bytes", "peak_bytes"}`. What the
    /// engine takes without a model comes on top.
    ///
    /// # Errors
    /// `invalid_argument` for a context longer than the model's, `not_a_model` before enough is known.
    pub fn footprint(&self, context_length: Option<usize>) -> JsResult<String> {
        let survey = self.survey().map_err(thrown)?;
        let footprint = survey.footprint(context_length).map_err(thrown)?;
        let mut all = json!({
            "architecture": survey.config().architecture.name(),
            "parameters": survey.config().parameters(),
            "quantization": survey.quantization(),
            "longest_context": survey.config().max_position_embeddings,
        });
        let figures = serde_json::to_value(footprint).expect("numbers always serialize");
        if let (Some(all), serde_json::Value::Object(figures)) = (all.as_object_mut(), figures) {
            all.extend(figures);
        }
        Ok(all.to_string())
    }

    /// Makes a smaller model of the same shapes, and returns the share of the real one's time that [`step`](Self::step)
    /// then takes.
    ///
    /// # Errors
    /// `out_of_memory`, and `not_a_model` before enough is known.
    pub fn rehearse(&mut self) -> JsResult<f64> {
        let mut rehearse = || {
            let (model, share) = self.survey()?.stand_in(STAND_IN_BYTES)?;
            let cache = model.new_cache(1)?;
            self.rehearsal = Some(Rehearsal { model, cache });
            Ok(share)
        };
        rehearse().map_err(thrown)
    }

    /// Generates a token with it, for the host to time.
    ///
    /// # Errors
    /// `invalid_argument` where nothing is rehearsed.
    pub fn step(&mut self) -> JsResult<()> {
        let mut step = || {
            let none = || Error::invalid_argument("nothing is rehearsed");
            let Rehearsal { model, cache } = self.rehearsal.as_mut().ok_or_else(none)?;
            cache.truncate(0)?;
            model.forward(&[TokenId(0)], cache, Logits::Last).map(drop)
        };
        step().map_err(thrown)
    }
}

impl Preflight {
    fn survey(&self) -> Result<&Survey> {
        let unknown = || Error::new(ErrorKind::NotAModel, "the file has no header");
        self.survey.as_ref().ok_or_else(unknown)
    }
}
