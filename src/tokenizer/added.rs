//! Added tokens: texts that are one token wherever they stand, found before anything else is done.

use std::collections::BTreeMap;

use tokenizers::AddedToken;

use super::unsupported;
use crate::error::Result;

/// Finds added tokens as the `tokenizers` crate does: first those that are looked for in the text as it
/// is, then, in what is between them, those that would be looked for behind a normalizer.
#[derive(Debug, Default)]
pub(super) struct AddedTokens {
    raw: Finder,
    normalized: Finder,
}

/// Finds the leftmost token first, of several there the longest.
#[derive(Debug, Default)]
struct Finder {
    /// By first byte, the longest first.
    by_first: BTreeMap<u8, Vec<Added>>,
}

#[derive(Debug)]
struct Added {
    id: u32,
    content: String,
    /// Takes the white space before it along.
    lstrip: bool,
    /// Takes the white space after it along.
    rstrip: bool,
}

/// A stretch of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch<'a> {
    Text(&'a str),
    Added(u32),
}

impl AddedTokens {
    /// `tokens` hold no empty text.
    ///
    /// # Errors
    /// [`UnsupportedArchitecture`](crate::ErrorKind::UnsupportedArchitecture) for a token that wants to
    /// be a word of its own: no SmolLM has such.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (u32, &'a AddedToken)>) -> Result<Self> {
        let mut added = Self::default();
        for (id, token) in tokens {
            if token.single_word {
                return Err(unsupported(format!(
                    "added token {:?}: single_word is not supported",
                    token.content
                )));
            }
            let finder = if token.normalized {
                &mut added.normalized
            } else {
                &mut added.raw
            };
            finder.insert(Added {
                id,
                content: token.content.clone(),
                lstrip: token.lstrip,
                rstrip: token.rstrip,
            });
        }
        Ok(added)
    }

    /// Calls `stretch` with added tokens and the texts between them, none empty, in order.
    pub(super) fn cut_out<'a>(&self, text: &'a str, mut stretch: impl FnMut(Stretch<'a>)) {
        self.raw.cut_out(text, |found| match found {
            Stretch::Text(text) => self.normalized.cut_out(text, &mut stretch),
            added => stretch(added),
        });
    }
}

impl Finder {
    fn insert(&mut self, token: Added) {
        let tokens = self
            .by_first
            .entry(token.content.as_bytes()[0])
            .or_default();
        let longer = |other: &Added| other.content.len() > token.content.len();
        tokens.insert(tokens.partition_point(longer), token);
    }

    fn cut_out<'a>(&self, text: &'a str, mut stretch: impl FnMut(Stretch<'a>)) {
        let mut rest = text;
        let mut at = 0;
        while at < rest.len() {
            let Some(token) = self.token_at(&rest.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            let mut before = &rest[..at];
            if token.lstrip {
                before = before.trim_end();
            }
            if !before.is_empty() {
                stretch(Stretch::Text(before));
            }
            stretch(Stretch::Added(token.id));
            rest = &rest[at + token.content.len()..];
            if token.rstrip {
                rest = rest.trim_start();
            }
            at = 0;
        }
        if !rest.is_empty() {
            stretch(Stretch::Text(rest));
        }
    }

    fn token_at(&self, bytes: &[u8]) -> Option<&Added> {
        let tokens = self.by_first.get(&bytes[0])?;
        tokens
            .iter()
            .find(|token| bytes.starts_with(token.content.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::models::bpe::BPE;
    use tokenizers::{AddedVocabulary, NormalizerWrapper, OffsetReferential, OffsetType};

    use super::super::words::tests::Random;
    use super::*;

    #[test]
    fn the_leftmost_and_longest_and_its_white_space() {
        let token = |content: &str| AddedToken::from(content, true);
        let tokens = [
            token("<a>"),
            token("<a><b>"),
            token("<l>").lstrip(true),
            token("<r>").rstrip(true),
        ];
        let added = AddedTokens::new((0..).zip(&tokens)).unwrap();
        let mut found = Vec::new();
        added.cut_out("é<a><b><a>x <l> <r>\n y<", |stretch| found.push(stretch));
        use Stretch::{Added, Text};
        let expected = [
            Text("é"),
            Added(1),
            Added(0),
            Text("x"),
            Added(2),
            Text(" "),
            Added(3),
            Text("y<"),
        ];
        assert_eq!(found, expected);

        let word = token("<w>").single_word(true);
        assert!(AddedTokens::new([(0, &word)].into_iter()).is_err());
    }

    /// The added vocabulary of the `tokenizers` crate on the same tokens and texts.
    #[test]
    fn random_tokens_as_in_the_reference() {
        let pieces = ["a", "b", "ab", "<", "é", "\u{3000}", " ", "\n"];
        let mut random = Random(5);
        for round in 0..300 {
            let mut contents = BTreeSet::new();
            for _ in 0..=random.below(5) {
                // White space inside a token that another one strips is the reference's own puzzle.
                let length = 1 + random.below(3);
                contents.insert(
                    (0..length)
                        .map(|_| pieces[random.below(5)])
                        .collect::<String>(),
                );
            }
            let tokens = contents.into_iter().map(|content| {
                AddedToken::from(content, false)
                    .normalized(random.below(2) == 0)
                    .lstrip(random.below(3) == 0)
                    .rstrip(random.below(3) == 0)
            });
            let tokens = tokens.collect::<Vec<_>>();
            let added = AddedTokens::new((0..).zip(&tokens)).unwrap();
            let mut reference = AddedVocabulary::new();
            reference
                .add_tokens(tokens.clone(), &BPE::default(), None::<&NormalizerWrapper>)
                .unwrap();
            for _ in 0..20 {
                let length = random.below(16);
                let text = (0..length)
                    .map(|_| pieces[random.below(pieces.len())])
                    .collect::<String>();
                let mut found = Vec::new();
                added.cut_out(&text, |stretch| {
                    found.push(match stretch {
                        Stretch::Text(text) => Err(text.to_owned()),
                        Stretch::Added(id) => Ok(id),
                    })
                });
                let expected = reference.extract_and_normalize(None::<&NormalizerWrapper>, &text);
                let expected = expected.get_splits(OffsetReferential::Original, OffsetType::Byte);
                let expected = expected.into_iter().map(|(text, _, tokens)| match tokens {
                    Some(tokens) => Ok(tokens[0].id),
                    None => Err(text.to_owned()),
                });
                let expected = expected.filter(|piece| *piece != Err(String::new()));
                assert_eq!(
                    found,
                    expected.collect::<Vec<_>>(),
                    "{round}: {text:?} with {tokens:?}"
                );
            }
        }
    }
}
