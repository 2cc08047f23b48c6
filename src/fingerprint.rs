//! A digest of every bit that a model computes: equal wherever the same weights run, whatever the processor, browser, build
//! or number of threads.

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::{KvCache, Logits, Model};
use crate::sampler::argmax;
use crate::token::TokenId;

/// What a [`Fingerprint`] comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256 of the logits at all positions of the text: little-endian f32, (position, vocabulary).
    pub text: String,
    /// The same of the logits that each token of the answer was chosen by.
    pub answer: String,
    /// The likeliest token after the text, the likeliest after that, …; end tokens end nothing.
    pub ids: Vec<TokenId>,
}

/// Reads a text and answers greedily, piece by piece, with a cache of its own.
#[derive(Debug)]
pub struct Fingerprint {
    text: Vec<TokenId>,
    piece: usize,
    answer: usize,
    ids: Vec<TokenId>,
    cache: KvCache,
    text_hash: Sha256,
    answer_hash: Sha256,
    /// After what was read last.
    logits: Vec<f32>,
}

impl Fingerprint {
    /// Of `text` and `answer` tokens after it; `piece` positions are read at once.
    ///
    /// # Errors
    /// `invalid_argument` for an empty text, `out_of_memory`.
    pub fn new(model: &Model, text: Vec<TokenId>, answer: usize, piece: usize) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid_argument("text: no tokens"));
        }
        Ok(Self {
            piece: piece.max(1),
            answer,
            ids: Vec::new(),
            cache: model.new_cache(text.len() + answer)?,
            text,
            text_hash: Sha256::new(),
            answer_hash: Sha256::new(),
            logits: Vec::new(),
        })
    }

    /// Reads the next piece, or chooses a token; `None` until nothing is left to do.
    ///
    /// # Errors
    /// `invalid_argument` for a token outside the vocabulary, and where the logits are no numbers.
    pub fn step(&mut self, model: &Model) -> Result<Option<Digests>> {
        let read = self.cache.len();
        if let Some(rest) = self.text.get(read..).filter(|rest| !rest.is_empty()) {
            let piece = &rest[..self.piece.min(rest.len())];
            let logits = model.forward(piece, &mut self.cache, Logits::All)?;
            add(&mut self.text_hash, &logits);
            self.logits = logits[logits.len() - model.config().vocab_size..].to_vec();
            return Ok(None);
        }
        if self.ids.len() < self.answer {
            if let Some(&last) = self.ids.last() {
                self.logits = model.forward(&[last], &mut self.cache, Logits::Last)?;
            }
            add(&mut self.answer_hash, &self.logits);
            let next = argmax(&self.logits)
                .ok_or_else(|| Error::invalid_argument("the model's logits are no numbers"))?;
            self.ids.push(next);
            return Ok(None);
        }
        Ok(Some(Digests {
            text: hex(&self.text_hash),
            answer: hex(&self.answer_hash),
            ids: self.ids.clone(),
        }))
    }
}

fn add(hash: &mut Sha256, logits: &[f32]) {
    for logit in logits {
        hash.update(logit.to_le_bytes());
    }
}

fn hex(hash: &Sha256) -> String {
    let digest = hash.clone().finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
