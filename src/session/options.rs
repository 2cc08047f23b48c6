//! What a caller may ask of one generation.

use crate::error::{Error, Result};
use crate::sampler::SamplingParams;

/// How to answer one prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The most tokens to generate, an end token included; `None` means until the context is full.
    pub max_tokens: Option<usize>,
    /// Text that ends the answer and is not part of it.
    pub stop: Vec<String>,
    /// `Some(k)` reports each token's log-probability under the model's own distribution, before any
    /// filter, and those of the `k` likeliest tokens.
    pub logprobs: Option<usize>,
}

impl GenerateOptions {
    /// The most stop strings taken.
    pub const MAX_STOP: usize = 16;
    /// The most alternatives reported for a token, as in OpenAI's API.
    pub const MAX_TOP_LOGPROBS: usize = 20;

    /// Refuses what cannot be done.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming the field and its value.
    pub fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        if self.max_tokens == Some(0) {
            return Err(Error::invalid_argument(
                "max_tokens: expected at least 1, found 0",
            ));
        }
        if self.stop.len() > Self::MAX_STOP {
            return Err(Error::invalid_argument(format!(
                "stop: expected at most {} strings, found {}",
                Self::MAX_STOP,
                self.stop.len()
            )));
        }
        if let Some(index) = self.stop.iter().position(String::is_empty) {
            return Err(Error::invalid_argument(format!("stop[{index}]: empty")));
        }
        match self.logprobs {
            Some(k) if k > Self::MAX_TOP_LOGPROBS => Err(Error::invalid_argument(format!(
                "top_logprobs: expected at most {}, found {k}",
                Self::MAX_TOP_LOGPROBS
            ))),
            _ => Ok(()),
        }
    }
}
