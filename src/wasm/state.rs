//! What an engine's cache holds, as bytes, part by part: the host keeps them wherever it can.

use wasm_bindgen::prelude::*;

use super::{JsResult, SmolLMInstruct};
use crate::session;

/// A cache that is being saved; `free` gives it up.
#[wasm_bindgen]
pub struct StateWriter(session::StateWriter);

#[wasm_bindgen]
impl StateWriter {
    /// Of what `engine` holds now.
    ///
    /// # Errors
    /// `engine_lost` without a model, `busy` during a load.
    #[wasm_bindgen(constructor)]
    pub fn new(engine: &SmolLMInstruct) -> JsResult<StateWriter> {
        engine.ready(|ready| Ok(Self(session::StateWriter::new(ready.model.session()))))
    }

    /// Tokens that are saved.
    pub fn tokens(&self) -> usize {
        self.0.tokens()
    }

    /// Bytes of all parts together; a number that JavaScript's have room for.
    pub fn bytes(&self) -> f64 {
        self.0.bytes() as f64
    }

    /// The next part, about a megabyte at most in the small models; nothing after the last one.
    ///
    /// # Errors
    /// `invalid_argument` where the engine has gone on to another conversation, `engine_lost`.
    pub fn next(&mut self, engine: &SmolLMInstruct) -> JsResult<Option<Vec<u8>>> {
        engine.ready(|ready| self.0.next(ready.model.session()))
    }
}

/// A cache that is being restored; `free` gives it up.
#[wasm_bindgen]
#[derive(Default)]
pub struct StateReader(session::StateReader);

#[wasm_bindgen]
impl StateReader {
    /// Nothing is read yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> StateReader {
        Self::default()
    }

    /// Takes the next bytes, as many as the host likes.
    ///
    /// # Errors
    /// `integrity`, `invalid_argument`, `context_overflow`, `busy` or `engine_lost`; all is over then.
    pub fn feed(&mut self, engine: &SmolLMInstruct, chunk: &[u8]) -> JsResult<()> {
        engine.ready(|ready| ready.model.restore(&mut self.0, chunk))
    }

    /// Says that the last bytes were fed; gives the number of tokens that the engine holds. The reader begins anew.
    ///
    /// # Errors
    /// `integrity` where bytes are missing, and as [`feed`](Self::feed).
    pub fn finish(&mut self, engine: &SmolLMInstruct) -> JsResult<usize> {
        let reader = std::mem::take(&mut self.0);
        engine.ready(|ready| ready.model.finish_restore(reader))
    }
}
