//! What a session needs of a model: small enough that a fake one can test the bookkeeping.

use crate::error::Result;
use crate::model::{KvCache, Logits, Model};
use crate::token::TokenId;

/// An immutable model that extends a cache of its caller's by tokens.
pub trait LanguageModel {
    /// Keys and values of the tokens evaluated so far.
    type Cache: Cache;

    /// Tokens of the vocabulary, and logits of a row.
    fn vocab_size(&self) -> usize;

    /// An empty cache for `capacity` positions.
    ///
    /// # Errors
    /// Where that many positions cannot be had.
    fn new_cache(&self, capacity: usize) -> Result<Self::Cache>;

    /// Appends `ids` to what `cache` holds.
    ///
    /// # Errors
    /// Where they do not fit or cannot be evaluated; the cache may then hold more or less than before.
    fn extend(&self, ids: &[TokenId], cache: &mut Self::Cache) -> Result<()>;

    /// Appends `ids`, at least one, and returns the logits `(vocab)` of what follows the last.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    fn next_logits(&self, ids: &[TokenId], cache: &mut Self::Cache) -> Result<Vec<f32>>;
}

/// A model's memory of the tokens it has evaluated, which its caller owns.
pub trait Cache {
    /// Positions held.
    fn len(&self) -> usize;

    /// Whether no position is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions there is room for.
    fn capacity(&self) -> usize;

    /// Forgets all positions from `len` on.
    ///
    /// # Errors
    /// Where fewer than `len` positions are held.
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// Bytes taken.
    fn memory_bytes(&self) -> usize;
}

impl LanguageModel for Model {
    type Cache = KvCache;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn new_cache(&self, capacity: usize) -> Result<KvCache> {
        Model::new_cache(self, capacity)
    }

    fn extend(&self, ids: &[TokenId], cache: &mut KvCache) -> Result<()> {
        self.forward(ids, cache, Logits::None).map(drop)
    }

    fn next_logits(&self, ids: &[TokenId], cache: &mut KvCache) -> Result<Vec<f32>> {
        self.forward(ids, cache, Logits::Last)
    }
}

impl Cache for KvCache {
    fn len(&self) -> usize {
        KvCache::len(self)
    }

    fn capacity(&self) -> usize {
        KvCache::capacity(self)
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        KvCache::truncate(self, len)
    }

    fn memory_bytes(&self) -> usize {
        KvCache::memory_bytes(self)
    }
}
