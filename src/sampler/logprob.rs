//! Log-probabilities of the model's own distribution, before any filter.

use super::by_rank;
use crate::token::TokenId;

/// `ln Σ exp(logits)` of one row `logits (vocab)`, summed in f64 in order of ids.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| libm::exp(f64::from(logit) - max))
        .sum();
    max + libm::log(sum)
}

/// `ln p(id)` under the softmax of one row `logits (vocab)`.
///
/// # Panics
/// If `id` is not below the row's length.
pub fn log_probability(logits: &[f32], id: TokenId) -> f32 {
    (f64::from(logits[id.0 as usize]) - log_sum_exp(logits)) as f32
}

/// The `k` likeliest tokens under the softmax of one row `logits (vocab)` with their
/// log-probabilities, best first, the lower id first among equals.
pub fn top_log_probabilities(logits: &[f32], k: usize) -> Vec<(TokenId, f32)> {
    let k = k.min(logits.len());
    if k == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<(f32, TokenId)> = logits
        .iter()
        .copied()
        .zip((0u32..).map(TokenId))
        .filter(|(logit, _)| !logit.is_nan())
        .collect();
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k - 1, |&a, &b| by_rank(a, b));
        ranked.truncate(k);
    }
    ranked.sort_unstable_by(|&a, &b| by_rank(a, b));
    let log_sum = log_sum_exp(logits);
    ranked
        .into_iter()
        .map(|(logit, id)| (id, (f64::from(logit) - log_sum) as f32))
        .collect()
}
