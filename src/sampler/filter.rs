//! The sampler: which tokens may come, with which probability, and which one does.

use super::{SamplingParams, argmax, by_rank};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// Tokens further below the best than this (in nats, after the temperature) are left out from the
/// start: a whole vocabulary of them weighs less than 2⁻⁵³, the resolution of the draw.
const NEGLIGIBLE: f64 = -50.0;

/// A token that may come, and how probably.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: TokenId,
    /// Its probability among the kept ones; they sum to 1.
    pub probability: f64,
    /// Its logit after the repetition penalty, which ranks it.
    logit: f32,
}

impl Candidate {
    fn rank(&self) -> (f32, TokenId) {
        (self.logit, self.id)
    }
}

/// Filters, then a draw. Holds parameters and scratch memory, no chance and no history.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    /// `(vocab)`, used where logits must change before they rank.
    penalized: Vec<f32>,
    kept: Vec<Candidate>,
}

impl Sampler {
    /// A sampler of `params`.
    ///
    /// # Errors
    /// See [`SamplingParams::validate`].
    pub fn new(params: SamplingParams) -> Result<Self> {
        params.validate()?;
        Ok(Self {
            params,
            penalized: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// The next token after `context` (prompt and answer so far), from the model's `logits (vocab)`
    /// and a `uniform` number in `[0, 1)`, which greedy sampling ignores.
    ///
    /// # Errors
    /// [`NotAModel`](crate::ErrorKind::NotAModel) where a logit is NaN or +∞, or none is finite.
    pub fn sample(&mut self, logits: &[f32], context: &[TokenId], uniform: f64) -> Result<TokenId> {
        if self.params.temperature == 0.0 {
            let logits = self.penalize(logits, context);
            let best = argmax(logits);
            check(logits, best)
        } else {
            self.distribution(logits, context)?;
            Ok(draw(&self.kept, uniform))
        }
    }

    /// The distribution that [`sample`](Self::sample) draws from: the kept tokens in order of ids.
    /// At temperature 0 that is the likeliest token alone.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn distribution(&mut self, logits: &[f32], context: &[TokenId]) -> Result<&[Candidate]> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let params = self.params;
        let logits = self.penalize(logits, context);
        let best = check(logits, argmax(logits))?;
        let max = f64::from(logits[best.0 as usize]);
        let temperature = f64::from(params.temperature);

        if params.temperature == 0.0 {
            kept.push(Candidate {
                id: best,
                probability: 1.0,
                logit: logits[best.0 as usize],
            });
        } else {
            // The smallest logit worth an `exp`. Subtracting the maximum first keeps tiny
            // temperatures from overflowing.
            let floor = max + NEGLIGIBLE * temperature;
            kept.extend(
                logits
                    .iter()
                    .zip((0u32..).map(TokenId))
                    .filter(|&(&logit, _)| f64::from(logit) >= floor)
                    .map(|(&logit, id)| Candidate {
                        id,
                        probability: 0.0,
                        logit,
                    }),
            );
            top_k(&mut kept, params.top_k);
            for candidate in &mut kept {
                // A weight relative to the best token's, whose own is 1.
                candidate.probability = libm::exp((f64::from(candidate.logit) - max) / temperature);
            }
            top_p(&mut kept, params.top_p);
            min_p(&mut kept, params.min_p);
            if !kept.is_sorted_by_key(|candidate| candidate.id) {
                kept.sort_unstable_by_key(|candidate| candidate.id);
            }
            let total: f64 = total(&kept);
            for candidate in &mut kept {
                candidate.probability /= total;
            }
        }
        self.kept = kept;
        Ok(&self.kept)
    }

    /// CTRL's penalty as transformers defines it: each token seen, once however often it was seen,
    /// has a positive logit divided by the penalty and a negative one multiplied.
    fn penalize<'a>(&'a mut self, logits: &'a [f32], context: &[TokenId]) -> &'a [f32] {
        let penalty = self.params.repetition_penalty;
        if penalty == 1.0 {
            return logits;
        }
        self.penalized.clear();
        self.penalized.extend_from_slice(logits);
        for id in context {
            let index = id.0 as usize;
            // Read from the untouched logits, so that a second occurrence changes nothing.
            if let Some(&logit) = logits.get(index) {
                self.penalized[index] = if logit < 0.0 {
                    logit * penalty
                } else {
                    logit / penalty
                };
            }
        }
        &self.penalized
    }
}

/// A broken model must not pass for a strange one.
fn check(logits: &[f32], best: Option<TokenId>) -> Result<TokenId> {
    if let Some(id) = logits
        .iter()
        .position(|l| l.is_nan() || *l == f32::INFINITY)
    {
        return Err(Error::not_a_model(format!(
            "logit of token {id} is {}",
            logits[id]
        )));
    }
    best.ok_or_else(|| Error::not_a_model("no token has a finite logit"))
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|c| c.probability).sum()
}

/// Keeps the `k` best. Selects instead of sorting; the order of what is left is arbitrary.
fn top_k(kept: &mut Vec<Candidate>, k: usize) {
    if k == 0 || k >= kept.len() {
        return;
    }
    kept.select_nth_unstable_by(k - 1, |a, b| by_rank(a.rank(), b.rank()));
    kept.truncate(k);
    // Sums must not depend on how the selection happened to leave them.
    kept.sort_unstable_by_key(|candidate| candidate.id);
}

/// Keeps the shortest ranking that holds at least `p` of the weight, the best token always.
fn top_p(kept: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        return;
    }
    let p = f64::from(p);
    let total = total(kept);
    // Tokens below the cutoff weigh less than (1 − p) of the total all together, so what is left
    // still holds p and only that needs sorting (llama2.c, `run.c`, `sample_topp`).
    let cutoff = (1.0 - p) * total / kept.len() as f64;
    kept.retain(|candidate| candidate.probability >= cutoff);
    kept.sort_unstable_by(|a, b| by_rank(a.rank(), b.rank()));
    let mut sum = 0.0;
    let enough = kept.iter().position(|candidate| {
        sum += candidate.probability;
        sum >= p * total
    });
    if let Some(last) = enough {
        kept.truncate(last + 1);
    }
}

/// Keeps what is at least `p` times as likely as the best token, whose weight is 1.
fn min_p(kept: &mut Vec<Candidate>, p: f32) {
    if p > 0.0 {
        let p = f64::from(p);
        kept.retain(|candidate| candidate.probability >= p);
    }
}

/// The first candidate at which the cumulative probability passes `uniform`.
///
/// # Panics
/// If there is no candidate.
fn draw(candidates: &[Candidate], uniform: f64) -> TokenId {
    let mut sum = 0.0;
    let drawn = candidates.iter().find(|candidate| {
        sum += candidate.probability;
        sum > uniform
    });
    // Rounding can leave the whole sum a hair below 1.
    drawn
        .or(candidates.last())
        .expect("a distribution has at least one token")
        .id
}
