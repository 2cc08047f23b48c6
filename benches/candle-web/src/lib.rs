//! candle-transformers' `quantized_llama`, used as its examples use it, with nothing around it.

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use wasm_bindgen::prelude::*;

/// A model with the tokens it has read.
#[wasm_bindgen]
pub struct CandleModel {
    weights: ModelWeights,
    position: usize,
}

#[wasm_bindgen]
impl CandleModel {
    /// Reads a GGUF file.
    ///
    /// # Errors
    /// What Candle says of the file.
    #[wasm_bindgen(constructor)]
    pub fn new(gguf: Vec<u8>) -> std::result::Result<CandleModel, JsError> {
        let mut reader = Cursor::new(gguf);
        let content = Content::read(&mut reader)?;
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Self {
            weights,
            position: 0,
        })
    }

    /// Forgets every token read.
    pub fn reset(&mut self) {
        self.weights.clear_kv_cache();
        self.position = 0;
    }

    /// Reads `ids` behind what was read before and returns the likeliest next token.
    ///
    /// # Errors
    /// What Candle says.
    pub fn forward(&mut self, ids: &[u32]) -> std::result::Result<u32, JsError> {
        Ok(self.evaluate(ids)?)
    }
}

impl CandleModel {
    fn evaluate(&mut self, ids: &[u32]) -> Result<u32> {
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.position)?;
        self.position += ids.len();
        logits.squeeze(0)?.argmax(0)?.to_scalar()
    }
}
