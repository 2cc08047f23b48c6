//! One generation at a time, step by step: the meeting place of model, tokenizer and sampler.
//!
//! A generation is started with a prompt and then advanced one [`step`](Session::step) at a time, so
//! that the caller can show progress, stream text, or [abort](Session::abort) between any two steps:
//!
//! 1. The longest common prefix of the prompt and of what the cache holds is kept, the rest of the
//!    cache is forgotten. The prompt's last token is always evaluated again: its logits are needed.
//! 2. Prefill: the rest of the prompt is evaluated in pieces of [`PREFILL_PIECE`] tokens.
//! 3. Decode: logits → filters → draw → token → whole UTF-8 → text that is no stop string.
//! 4. The end: an end token, a stop string, `max_tokens`, a full context, or the caller.
//!
//! Invariant, whatever happens: `cached` lists the tokens whose keys and values the cache holds, in
//! order. So cached generation equals generation from scratch, after an abort or an error too.

mod model;
mod options;
mod state;
mod stop;

use std::sync::Arc;

use serde::Serialize;

pub use model::{Cache, LanguageModel};
pub use options::GenerateOptions;
pub use state::{STATE_VERSION, StateReader, StateWriter};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::sampler::{Rng, Sampler, log_probability, top_log_probabilities};
use crate::token::TokenId;
use crate::tokenizer::{TextStream, Tokenizer};
use stop::{StopMatcher, Watched};

/// Prompt tokens evaluated in one step: enough to keep the matrix kernels busy, few enough that an
/// abort is seen within a fraction of a second.
pub const PREFILL_PIECE: usize = 32;

/// What one step of a generation came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Step {
    /// A piece of the prompt was evaluated.
    Prefill {
        /// Prompt tokens that the cache holds now, those it held before included.
        done: usize,
        /// Prompt tokens.
        total: usize,
    },
    /// A token was generated.
    Token {
        /// The token.
        id: TokenId,
        /// Text that became certain with it: whole characters, often none, never of a control token.
        text: String,
        /// `ln p(id)` under the model's own distribution, if asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprob: Option<f32>,
        /// The likeliest tokens and their log-probabilities, best first, if asked for.
        #[serde(rename = "top_logprobs", skip_serializing_if = "Vec::is_empty")]
        top: Vec<(TokenId, f32)>,
    },
    /// The generation is over.
    Done {
        /// Why.
        finish_reason: FinishReason,
        /// Text that had been held back.
        text: String,
        /// What was counted.
        usage: Usage,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// An end token or a stop string came.
    Stop,
    /// `max_tokens` were generated, or the context is full.
    Length,
    /// The caller stopped it.
    Abort,
}

/// Tokens counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated, the end token included.
    pub completion_tokens: usize,
    /// The sum of both.
    pub total_tokens: usize,
    /// Tokens of the prompt that the cache already held.
    pub cached_tokens: usize,
}

/// What [`Session::start`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Prepared {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those that need no evaluation because the cache holds them.
    pub cached_tokens: usize,
}

/// An immutable model, the cache of one line of talk, and at most one generation under way.
pub struct Session<M: LanguageModel = Model> {
    model: Arc<M>,
    tokenizer: Arc<Tokenizer>,
    end_tokens: Vec<TokenId>,
    cache: M::Cache,
    /// The tokens that `cache` holds.
    cached: Vec<TokenId>,
    /// `(vocab)`: what follows the last cached token, valid once a generation's prefill is complete.
    logits: Vec<f32>,
    run: Option<Run>,
}

/// A generation under way.
struct Run {
    /// The prompt, then the answer so far.
    tokens: Vec<TokenId>,
    prompt_tokens: usize,
    cached_tokens: usize,
    max_tokens: usize,
    sampler: Sampler,
    rng: Rng,
    text: TextStream,
    stops: StopMatcher,
    logprobs: Option<usize>,
    /// Set by the step that generated the last token, reported by the next.
    finished: Option<FinishReason>,
}

impl Run {
    fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }
}

impl<M: LanguageModel> Session<M> {
    /// A session over `model` with room for `context_length` tokens, prompt and answer together.
    ///
    /// # Errors
    /// Where the cache cannot be had.
    pub fn new(
        model: Arc<M>,
        tokenizer: Arc<Tokenizer>,
        end_tokens: Vec<TokenId>,
        context_length: usize,
    ) -> Result<Self> {
        let cache = model.new_cache(context_length)?;
        Ok(Self {
            model,
            tokenizer,
            end_tokens,
            cache,
            cached: Vec::new(),
            logits: Vec::new(),
            run: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens there is room for, prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.cache.capacity()
    }

    /// The tokens that the cache holds.
    pub fn cached(&self) -> &[TokenId] {
        &self.cached
    }

    /// Bytes that the cache takes.
    pub fn cache_bytes(&self) -> usize {
        self.cache.memory_bytes()
    }

    /// Whether a generation is under way.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Begins to answer `prompt`. Nothing is evaluated yet.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) while another generation is under way,
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an empty prompt, a token outside the
    /// vocabulary or options that make no sense, [`ContextOverflow`](ErrorKind::ContextOverflow) where
    /// the prompt leaves no room for a single token. The session stays as it was.
    pub fn start(&mut self, prompt: Vec<TokenId>, options: GenerateOptions) -> Result<Prepared> {
        if self.run.is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                "another generation is under way: finish or abort it first",
            ));
        }
        options.validate()?;
        self.check_prompt(&prompt)?;

        let room = self.cache.capacity() - prompt.len();
        let common = prompt
            .iter()
            .zip(&self.cached)
            .take_while(|(a, b)| a == b)
            .count();
        let kept = common.min(prompt.len() - 1);
        self.truncate(kept)?;

        let prepared = Prepared {
            prompt_tokens: prompt.len(),
            cached_tokens: kept,
        };
        self.run = Some(Run {
            prompt_tokens: prompt.len(),
            cached_tokens: kept,
            tokens: prompt,
            max_tokens: options.max_tokens.map_or(room, |max| max.min(room)),
            rng: Rng::new(options.sampling.seed),
            sampler: Sampler::new(options.sampling)?,
            text: TextStream::new(),
            stops: StopMatcher::new(options.stop),
            logprobs: options.logprobs,
            finished: None,
        });
        Ok(prepared)
    }

    fn check_prompt(&self, prompt: &[TokenId]) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::invalid_argument("prompt: empty"));
        }
        let vocab_size = self.model.vocab_size();
        if let Some(id) = prompt.iter().find(|id| id.0 as usize >= vocab_size) {
            return Err(Error::invalid_argument(format!(
                "prompt: token {} is not below the vocabulary's {vocab_size}",
                id.0
            )));
        }
        let context = self.cache.capacity();
        if prompt.len() >= context {
            return Err(overflow(prompt.len(), context));
        }
        Ok(())
    }

    /// Goes one step further: evaluates a piece of the prompt, or generates a token, or ends.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where nothing was started; otherwise what the
    /// model says. An error ends the generation and leaves the session usable.
    pub fn step(&mut self) -> Result<Step> {
        let mut run = self.run.take().ok_or_else(|| {
            Error::invalid_argument("nothing is being generated: start something first")
        })?;
        if let Some(reason) = run.finished {
            return Ok(self.finish(run, reason));
        }
        // An error drops the run, and with it the generation.
        let step = if self.cached.len() < run.prompt_tokens {
            self.prefill(&run)?
        } else {
            self.decode(&mut run)?
        };
        self.run = Some(run);
        Ok(step)
    }

    /// Ends the generation under way, with what was held back of its text; `None` where there is none.
    pub fn abort(&mut self) -> Option<Step> {
        let run = self.run.take()?;
        let reason = run.finished.unwrap_or(FinishReason::Abort);
        Some(self.finish(run, reason))
    }

    fn prefill(&mut self, run: &Run) -> Result<Step> {
        let total = run.prompt_tokens;
        let done = self.cached.len();
        let next = total.min(done + PREFILL_PIECE);
        self.evaluate(&run.tokens[done..next], next == total)?;
        Ok(Step::Prefill { done: next, total })
    }

    fn decode(&mut self, run: &mut Run) -> Result<Step> {
        // The last token generated is evaluated only now that a further one is wanted.
        let known = self.cached.len();
        if known < run.tokens.len() {
            self.evaluate(&run.tokens[known..], true)?;
        }
        let uniform = run.rng.uniform();
        let id = match run.sampler.sample(&self.logits, &run.tokens, uniform) {
            Ok(id) => id,
            Err(error) => {
                // Logits that are no numbers come from keys and values that must not be kept.
                self.forget();
                return Err(error);
            }
        };
        run.tokens.push(id);

        let mut text = String::new();
        if self.end_tokens.contains(&id) {
            run.finished = Some(FinishReason::Stop);
        } else {
            match run.stops.push(&run.text.push(&self.tokenizer, id)) {
                Watched::Text(certain) => text = certain,
                Watched::Stopped(last) => {
                    text = last;
                    // Bytes of a character begun after the stop string are no answer either.
                    run.text = TextStream::new();
                    run.finished = Some(FinishReason::Stop);
                }
            }
            if run.finished.is_none() && run.completion_tokens() == run.max_tokens {
                run.finished = Some(FinishReason::Length);
            }
        }
        Ok(Step::Token {
            id,
            text,
            logprob: run.logprobs.map(|_| log_probability(&self.logits, id)),
            top: top_log_probabilities(&self.logits, run.logprobs.unwrap_or(0)),
        })
    }

    fn finish(&self, mut run: Run, mut finish_reason: FinishReason) -> Step {
        let text = match run.stops.push(&run.text.finish()) {
            Watched::Text(text) => text + &run.stops.flush(),
            Watched::Stopped(text) => {
                finish_reason = FinishReason::Stop;
                text
            }
        };
        let completion_tokens = run.completion_tokens();
        Step::Done {
            finish_reason,
            text,
            usage: Usage {
                prompt_tokens: run.prompt_tokens,
                completion_tokens,
                total_tokens: run.prompt_tokens + completion_tokens,
                cached_tokens: run.cached_tokens,
            },
        }
    }

    /// Appends `ids` to the cache and, if `wanted`, takes the logits of what follows them.
    fn evaluate(&mut self, ids: &[TokenId], wanted: bool) -> Result<()> {
        let outcome = if wanted {
            self.model
                .next_logits(ids, &mut self.cache)
                .map(|logits| self.logits = logits)
        } else {
            self.model.extend(ids, &mut self.cache)
        };
        match outcome {
            Ok(()) => {
                self.cached.extend_from_slice(ids);
                debug_assert_eq!(self.cached.len(), self.cache.len());
                Ok(())
            }
            Err(error) => {
                // Whatever was appended before it failed goes; what was there before is good.
                if self.cache.truncate(self.cached.len()).is_err() {
                    self.forget();
                }
                Err(error)
            }
        }
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.cache.truncate(len)?;
        self.cached.truncate(len);
        Ok(())
    }

    /// Empties the cache: the next prompt is evaluated from its first token on.
    pub fn forget(&mut self) {
        self.cached.clear();
        self.cache
            .truncate(0)
            .expect("a cache holds at least no position");
    }
}

/// The error of a prompt that leaves no room for an answer.
pub(crate) fn overflow(prompt_tokens: usize, context_length: usize) -> Error {
    Error::new(
        ErrorKind::ContextOverflow,
        format!(
            "prompt of {prompt_tokens} tokens leaves no room for an answer in a context of {context_length}"
        ),
    )
}
