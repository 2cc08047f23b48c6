//! Ids → text as they come, whole characters only.

use super::{ShowSpecial, Tokenizer};
use crate::token::TokenId;

/// Turns a stream of ids into pieces of text, each of them whole UTF-8. All pieces together, with what
/// [`TextStream::finish`] gives, are [`Tokenizer::decode_with`] of all ids.
///
/// Bytes that can no longer become a character turn into U+FFFD as soon as that is certain, one per
/// maximal subpart (Unicode 16, section 3.9, as `String::from_utf8_lossy` and browsers do it).
#[derive(Debug, Clone)]
pub struct TextStream {
    special: ShowSpecial,
    /// The begun character: at most three bytes between two calls.
    pending: Vec<u8>,
}

impl TextStream {
    /// A stream that leaves control tokens out.
    pub fn new() -> Self {
        Self::with(ShowSpecial::No)
    }

    /// A stream that shows or leaves out control tokens.
    pub fn with(special: ShowSpecial) -> Self {
        Self {
            special,
            pending: Vec::new(),
        }
    }

    /// Takes the next token and gives the text that is whole now and was not before; often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> String {
        self.pending
            .extend_from_slice(tokenizer.shown_bytes(id, self.special));
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let broken = chunk.invalid();
            if broken.is_empty() || is_begun(broken) && done + broken.len() == self.pending.len() {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += broken.len();
        }
        self.pending.drain(..done);
        text
    }

    /// Ends the text: U+FFFD if a character was begun and never finished. The stream is as new then.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

impl Default for TextStream {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether more bytes could make a character of these, which are not one.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}
