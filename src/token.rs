//! Token ids and positions: two integers that must not trade places.

use serde::{Deserialize, Serialize};

/// A token's index in the vocabulary.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// A token's place in the context, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub usize);
