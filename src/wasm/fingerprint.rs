//! A model's fingerprint, step by step as everything that takes long.

use serde_json::json;
use wasm_bindgen::prelude::*;

use super::{JsResult, SmolLMInstruct};
use crate::fingerprint::Fingerprint;
use crate::session::PREFILL_PIECE;
use crate::tokenizer::ParseSpecial;

/// A [`Fingerprint`] under way; `free` gives it up.
#[wasm_bindgen]
pub struct FingerprintRun(Fingerprint);

#[wasm_bindgen]
impl FingerprintRun {
    /// Of `text` and so many tokens after it. The conversation of `engine` stays as it is.
    ///
    /// # Errors
    /// `invalid_argument` for an empty text, `out_of_memory`, `engine_lost` without a model.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &SmolLMInstruct, text: &str, answer: usize) -> JsResult<FingerprintRun> {
        let run = engine.ready(|ready| {
            let ids = ready.model.tokenizer().encode(text, ParseSpecial::No)?;
            Fingerprint::new(ready.model.session().model(), ids, answer, PREFILL_PIECE)
        })?;
        Ok(Self(run))
    }

    /// Goes on; with nothing left to do returns `{"text", "answer", "ids"}`.
    ///
    /// # Errors
    /// `engine_lost`, and `invalid_argument` where another model was loaded meanwhile.
    pub fn step(&mut self, engine: &SmolLMInstruct) -> JsResult<Option<String>> {
        let found = engine.ready(|ready| self.0.step(ready.model.session().model()))?;
        Ok(found.map(|found| {
            let ids: Vec<u32> = found.ids.iter().map(|id| id.0).collect();
            json!({"text": found.text, "answer": found.answer, "ids": ids}).to_string()
        }))
    }
}
