//! From logits to the next token: filters, then a draw with the chance passed in.
//!
//! The steps and their order are those of Hugging Face transformers
//! (`generation/utils.py::_get_logits_processor`, `generation/logits_process.py`):
//!
//! 1. repetition penalty (Keskar et al. 2019, "CTRL", <https://arxiv.org/abs/1909.05858>, §4.1);
//! 2. temperature, 0 ending here with the likeliest token;
//! 3. top-k (Fan et al. 2018, <https://arxiv.org/abs/1805.04833>);
//! 4. top-p (Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>);
//! 5. min-p (Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>);
//! 6. the draw: the first kept token, in order of ids, at which the cumulative probability passes
//!    a uniform number in `[0, 1)`.
//!
//! Every rule is total, so that results are the same everywhere: of equal logits the lower id ranks
//! first (top-k keeps exactly k, where transformers keeps all that tie with the k-th); sums are
//! taken in f64 in a stated order; `exp` and `ln` are the `libm` crate's, since platforms' own differ.

mod filter;
mod logprob;
mod params;
mod rng;

pub use filter::{Candidate, Sampler};
pub use logprob::{log_probability, log_sum_exp, top_log_probabilities};
pub use params::SamplingParams;
pub use rng::Rng;

use crate::token::TokenId;

/// The token of the largest logit, the lowest id among equals; `None` where no logit is above −∞.
///
/// `logits (vocab)`. NaN never wins.
pub fn argmax(logits: &[f32]) -> Option<TokenId> {
    let mut best = None;
    let mut max = f32::NEG_INFINITY;
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > max {
            max = logit;
            best = Some(TokenId(id));
        }
    }
    best
}

/// The order of rank: larger logits first, of equal ones the lower id. Total where no logit is NaN.
fn by_rank(a: (f32, TokenId), b: (f32, TokenId)) -> std::cmp::Ordering {
    b.0.partial_cmp(&a.0)
        .unwrap_or(std::cmp::Ordering::Equal)
        .then(a.1.cmp(&b.1))
}
