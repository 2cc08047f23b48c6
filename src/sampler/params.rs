//! What a caller may choose about sampling, and what is refused.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};

/// How the next token is chosen from the model's logits.
///
/// The names and meanings are those of Hugging Face transformers and of OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by it. 0 is greedy: the likeliest token always, the lowest id among equals.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens may come; 0 means all.
    pub top_k: usize,
    /// Only the smallest set of likeliest tokens that holds this much probability may come; 1 means all.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the likeliest may come; 0 means all.
    pub min_p: f32,
    /// Tokens of the prompt and of the answer so far lose by this factor; 1 means none does.
    pub repetition_penalty: f32,
    /// Equal seeds give equal draws.
    pub seed: u64,
}

impl Default for SamplingParams {
    /// The model's own distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// The largest temperature accepted, as in OpenAI's API.
    pub const MAX_TEMPERATURE: f32 = 2.0;
    /// The largest repetition penalty accepted; beyond it logits lose their meaning.
    pub const MAX_REPETITION_PENALTY: f32 = 10.0;

    /// The likeliest token at every step.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Refuses what no distribution can be made of.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the field and its value.
    pub fn validate(&self) -> Result<()> {
        within("temperature", self.temperature, 0.0..=Self::MAX_TEMPERATURE)?;
        within("top_p", self.top_p, 0.0..=1.0)?;
        within("min_p", self.min_p, 0.0..=1.0)?;
        let penalty = self.repetition_penalty;
        // Zero would turn logits into infinities, so the range is open at that end.
        if penalty > 0.0 && penalty <= Self::MAX_REPETITION_PENALTY {
            Ok(())
        } else {
            Err(Error::invalid_argument(format!(
                "repetition_penalty: expected a number above 0 and at most {}, found {penalty}",
                Self::MAX_REPETITION_PENALTY
            )))
        }
    }
}

fn within(name: &str, value: f32, range: RangeInclusive<f32>) -> Result<()> {
    // NaN is contained in no range.
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "{name}: expected a number from {} to {}, found {value}",
        range.start(),
        range.end()
    )))
}
