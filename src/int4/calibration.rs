//! Rounding with error feedback, for embeddings and heads (GPTQ: Frantar et al. 2022, "GPTQ: Accurate Post-Training
//! Quantization for Generative Pre-trained Transformers").
//!
//! A head's error matters by what it does to the probabilities. To second order the divergence of the wrong
//! distribution from the right one is ½ Σ pᵢ δᵢ², where δᵢ = eᵢ · h is the error of logit i. So
//!
//! - a row's error is measured by the mean of h hᵀ over a calibration text, and what rounding one column does there is
//!   taken back in the columns that are not rounded yet;
//! - a row's step may be the wider the rarer its token. The best share of bits would have steps ∝ p^−½; the weaker
//!   power here leaves room for texts that are not like the calibration text.

use super::stored::{CodeBits, StoredGroup, StoredRow, bf16_above};
use crate::error::{Error, Result};
use crate::kernels::GROUP;

/// Steps a standard deviation of the whole matrix in the row of a token of median probability. On SmolLM2-135M this
/// comes to 2.9 bits a weight.
const STEPS_PER_DEVIATION: f64 = 2.2;
/// Steps go with this power of a token's probability, negated.
const POWER: f64 = 0.3;
/// What the probability of a token is taken to be at least, times the size of the vocabulary.
const LEAST_PROBABILITY: f64 = 0.02;
/// Steps differ from the median's by at most this many octaves.
const OCTAVES: f64 = 1.75;
/// Added to the diagonal of the mean of h hᵀ, in means of it. Large, because a tied head's rows are also looked up,
/// where errors are to be small in every direction.
const DAMPING: f64 = 0.1;
/// Logits farther than this below the largest have no weight: e⁻²⁰ is 2·10⁻⁹.
const NEGLIGIBLE: f32 = 20.0;

/// What a calibration text says about a head: the mean of h hᵀ over its final hidden states h, and how probable each
/// token is on the average.
#[derive(Debug, Clone)]
pub struct HeadStatistics {
    hidden: usize,
    /// (hidden, hidden), summed; the upper triangle.
    outer: Vec<f64>,
    /// (vocab), summed.
    probabilities: Vec<f64>,
    positions: usize,
}

impl HeadStatistics {
    /// Statistics of no text yet.
    pub fn new(hidden: usize, vocab: usize) -> Self {
        Self {
            hidden,
            outer: vec![0.0; hidden * hidden],
            probabilities: vec![0.0; vocab],
            positions: 0,
        }
    }

    /// Adds positions: `states` (tokens, hidden), what the head is multiplied with, and `logits` (tokens, vocab).
    ///
    /// # Panics
    /// Where the lengths do not fit.
    pub fn add(&mut self, states: &[f32], logits: &[f32]) {
        let vocab = self.probabilities.len();
        let tokens = states.len() / self.hidden;
        assert_eq!(states.len(), tokens * self.hidden, "states");
        assert_eq!(logits.len(), tokens * vocab, "logits");
        for state in states.chunks_exact(self.hidden) {
            for (i, row) in self.outer.chunks_exact_mut(self.hidden).enumerate() {
                let x = f64::from(state[i]);
                for (sum, &y) in row[i..].iter_mut().zip(&state[i..]) {
                    *sum += x * f64::from(y);
                }
            }
        }
        let mut weights = Vec::new();
        for logits in logits.chunks_exact(vocab) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights.clear();
            weights.extend(
                (0..vocab)
                    .filter(|&i| logits[i] > largest - NEGLIGIBLE)
                    .map(|i| (i, libm::exp(f64::from(logits[i] - largest)))),
            );
            let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
            for &(i, weight) in &weights {
                self.probabilities[i] += weight / total;
            }
        }
        self.positions += tokens;
    }

    /// Positions added.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// Rounds the rows of an embedding or a head to codes of six bits with one step a row.
#[derive(Debug)]
pub struct HeadQuantizer {
    steps: Vec<f32>,
    feedback: Option<Feedback>,
}

impl HeadQuantizer {
    /// A quantizer for a matrix (vocab, hidden) whose weights have this mean square. Where `multiplied` is false, rows
    /// are only looked up, and no error in one column can make up for another's.
    ///
    /// # Errors
    /// `invalid_argument` for statistics of no or of degenerate text.
    pub fn new(statistics: &HeadStatistics, mean_square: f64, multiplied: bool) -> Result<Self> {
        let feedback = if multiplied {
            Some(Feedback::new(statistics)?)
        } else {
            None
        };
        let vocab = statistics.probabilities.len() as f64;
        let least = LEAST_PROBABILITY / vocab;
        let positions = statistics.positions.max(1) as f64;
        let probable: Vec<f64> = statistics
            .probabilities
            .iter()
            .map(|sum| sum / positions + least)
            .collect();
        let mut sorted = probable.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
        let middle = mean_square.sqrt() / STEPS_PER_DEVIATION;
        let step = |p: f64| {
            let octaves = (-POWER * libm::log2(p / median)).clamp(-OCTAVES, OCTAVES);
            // Eighths, so that the steps cost little to tell.
            let octaves = (8.0 * octaves).round() / 8.0;
            (middle * libm::exp2(octaves)) as f32
        };
        Ok(Self {
            steps: probable.into_iter().map(step).collect(),
            feedback,
        })
    }

    /// Row `index` of the matrix; `row` (hidden).
    ///
    /// # Panics
    /// Where there is no such row, or it has another length than the statistics'.
    pub fn round(&self, index: usize, row: &[f32]) -> StoredRow {
        const ZERO: f32 = (CodeBits::Six.max_code() / 2) as f32;
        let largest = row.iter().fold(0.0, |largest: f32, w| largest.max(w.abs()));
        // As narrow as the row's largest weight allows.
        let step = bf16_above(self.steps[index].max(largest / ZERO));
        let code = |x: f32| x.round_ties_even().clamp(-ZERO, ZERO);
        let mut codes = vec![ZERO as u8; row.len()];
        if step >= f32::MIN_POSITIVE {
            match &self.feedback {
                Some(feedback) => feedback.round(row, step, code, |c, q| {
                    codes[c] = (q + ZERO) as u8;
                }),
                None => {
                    for (to, w) in codes.iter_mut().zip(row) {
                        *to = (code(w / step) + ZERO) as u8;
                    }
                }
            }
        }
        let groups = codes
            .as_chunks::<GROUP>()
            .0
            .iter()
            .map(|&codes| StoredGroup {
                codes,
                scale: 1,
                minimum: 0,
            });
        StoredRow {
            scale: if step >= f32::MIN_POSITIVE { step } else { 0.0 },
            minimum_step: 0,
            groups: groups.collect(),
        }
    }
}

/// The order in which columns are rounded, and what each leaves to those after it.
#[derive(Debug)]
struct Feedback {
    /// Columns by how much they matter, most first.
    order: Vec<usize>,
    /// U with UᵀU = H⁻¹, rows over their diagonal; (hidden, hidden), in that order.
    upper: Vec<f32>,
}

impl Feedback {
    fn new(statistics: &HeadStatistics) -> Result<Self> {
        let n = statistics.hidden;
        let degenerate = || {
            Error::invalid_argument(
                "the calibration text is too short or the model gives no numbers",
            )
        };
        let mean = |i: usize, j: usize| statistics.outer[i.min(j) * n + i.max(j)];
        let damping = DAMPING * (0..n).map(|i| mean(i, i)).sum::<f64>() / n as f64;
        if !(damping.is_finite() && damping > 0.0) {
            return Err(degenerate());
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| mean(j, j).total_cmp(&mean(i, i)));
        let mut matrix = vec![0.0; n * n];
        for (row, &i) in matrix.chunks_exact_mut(n).zip(&order) {
            for (to, &j) in row.iter_mut().zip(&order) {
                *to = mean(i, j) + if i == j { damping } else { 0.0 };
            }
        }
        // H⁻¹ = L⁻ᵀ L⁻¹ with H = L Lᵀ; its own factor, transposed, is U.
        let lower = cholesky(matrix, n).ok_or_else(degenerate)?;
        let factor = cholesky(inverse(&lower, n), n).ok_or_else(degenerate)?;
        let mut upper = vec![0.0; n * n];
        for j in 0..n {
            for i in j..n {
                upper[j * n + i] = (factor[i * n + j] / factor[j * n + j]) as f32;
            }
        }
        Ok(Self { order, upper })
    }

    /// Calls `set` with each column of `row` and its code, in steps.
    fn round(
        &self,
        row: &[f32],
        step: f32,
        code: impl Fn(f32) -> f32,
        mut set: impl FnMut(usize, f32),
    ) {
        let n = self.order.len();
        assert_eq!(row.len(), n, "columns");
        let mut left: Vec<f32> = self.order.iter().map(|&c| row[c] / step).collect();
        for (j, &c) in self.order.iter().enumerate() {
            let q = code(left[j]);
            set(c, q);
            let error = left[j] - q;
            let factors = &self.upper[j * n..][..n];
            for (x, factor) in left[j + 1..].iter_mut().zip(&factors[j + 1..]) {
                *x -= error * factor;
            }
        }
    }
}

/// L with L Lᵀ = `a` (n, n), symmetric; `None` where `a` is not positive definite.
fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for i in 0..n {
        let (above, rest) = a.split_at_mut(i * n);
        let row = &mut rest[..n];
        for (j, other) in above.chunks_exact(n).enumerate() {
            let dot: f64 = row[..j].iter().zip(other).map(|(x, y)| x * y).sum();
            row[j] = (row[j] - dot) / other[j];
        }
        let square = row[i] - row[..i].iter().map(|x| x * x).sum::<f64>();
        if !(square.is_finite() && square > 0.0) {
            return None;
        }
        row[i] = square.sqrt();
        row[i + 1..].fill(0.0);
    }
    Some(a)
}

/// (L Lᵀ)⁻¹ for a lower triangle L (n, n).
fn inverse(lower: &[f64], n: usize) -> Vec<f64> {
    // Columns of L⁻¹, as rows.
    let mut columns = vec![0.0; n * n];
    for (c, column) in columns.chunks_exact_mut(n).enumerate() {
        column[c] = 1.0 / lower[c * n + c];
        for i in c + 1..n {
            let row = &lower[i * n..][..n];
            let dot: f64 = row[c..i]
                .iter()
                .zip(&column[c..i])
                .map(|(x, y)| x * y)
                .sum();
            column[i] = -dot / row[i];
        }
    }
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let (x, y) = (&columns[i * n..][j..n], &columns[j * n..][j..n]);
            let dot: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
            out[i * n + j] = dot;
            out[j * n + i] = dot;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: usize = 64;
    const VOCAB: usize = 96;

    fn noise(seed: u32, n: usize) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next() + next() + next()).collect()
    }

    /// States that lie near a few directions, as real ones do, and logits that prefer the first tokens.
    fn statistics(tokens: usize) -> (HeadStatistics, Vec<f32>) {
        let directions = noise(1, 6 * HIDDEN);
        let weights = noise(2, 6 * tokens);
        let mut states = noise(3, tokens * HIDDEN);
        for (t, state) in states.chunks_exact_mut(HIDDEN).enumerate() {
            for (i, x) in state.iter_mut().enumerate() {
                *x = 0.1 * *x
                    + (0..6)
                        .map(|d| weights[6 * t + d] * directions[d * HIDDEN + i])
                        .sum::<f32>();
            }
        }
        let logits: Vec<f32> = (0..tokens * VOCAB)
            .map(|i| -((i % VOCAB) as f32) / 8.0)
            .collect();
        let mut statistics = HeadStatistics::new(HIDDEN, VOCAB);
        statistics.add(&states, &logits);
        (statistics, states)
    }

    fn values(row: &StoredRow) -> Vec<f32> {
        let mut out = vec![0.0; HIDDEN];
        row.dequantize(CodeBits::Six, &mut out);
        out
    }

    fn output_error(states: &[f32], a: &[f32], b: &[f32]) -> f32 {
        let dot = |state: &[f32]| -> f32 {
            state
                .iter()
                .zip(a.iter().zip(b))
                .map(|(h, (a, b))| h * (a - b))
                .sum()
        };
        states
            .chunks_exact(HIDDEN)
            .map(|state| dot(state) * dot(state))
            .sum()
    }

    #[test]
    fn feedback_beats_rounding_each_weight_by_itself() {
        let (statistics, states) = statistics(500);
        let plain = HeadQuantizer::new(&statistics, 0.25, false).unwrap();
        let with = HeadQuantizer::new(&statistics, 0.25, true).unwrap();
        let (mut plain_error, mut with_error) = (0.0, 0.0);
        for i in 0..VOCAB {
            let row = noise(10 + i as u32, HIDDEN);
            plain_error += output_error(&states, &row, &values(&plain.round(i, &row)));
            with_error += output_error(&states, &row, &values(&with.round(i, &row)));
        }
        assert!(
            with_error < 0.5 * plain_error,
            "{with_error} of {plain_error}"
        );
    }

    #[test]
    fn rare_tokens_get_wider_steps_and_every_weight_fits() {
        let (statistics, _) = statistics(500);
        let quantizer = HeadQuantizer::new(&statistics, 0.25, true).unwrap();
        let mut row = noise(5, HIDDEN);
        let steps: Vec<f32> = (0..VOCAB).map(|i| quantizer.round(i, &row).scale).collect();
        assert!(steps.is_sorted(), "{steps:?}");
        assert!(steps[VOCAB - 1] > 2.0 * steps[0], "{steps:?}");
        row[7] = 100.0;
        let stored = quantizer.round(0, &row);
        let error = (values(&stored)[7] - 100.0).abs();
        // Feedback moves a weight before it is rounded.
        assert!(error <= 4.0 * stored.scale, "{error}");
        for row in [vec![0.0; HIDDEN], vec![1e-42; HIDDEN]] {
            assert!(
                values(&quantizer.round(1, &row))
                    .iter()
                    .all(|x| x.is_finite())
            );
        }
    }

    #[test]
    fn factors_multiply_back() {
        let n = 24;
        let x = noise(9, n * n);
        let entry = |i: usize, j: usize| -> f64 {
            let dot: f32 = (0..n).map(|k| x[i * n + k] * x[j * n + k]).sum();
            f64::from(dot) + if i == j { 0.5 } else { 0.0 }
        };
        let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        let inverse = inverse(&cholesky(matrix.clone(), n).unwrap(), n);
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| matrix[i * n + k] * inverse[k * n + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-9, "{i} {j}: {product}");
            }
        }
        assert!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
    }

    #[test]
    fn no_text_is_refused() {
        let statistics = HeadStatistics::new(HIDDEN, VOCAB);
        let error = HeadQuantizer::new(&statistics, 1.0, true).unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
    }
}
