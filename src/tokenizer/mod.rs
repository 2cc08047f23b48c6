//! Text ↔ token ids: byte-level BPE exactly as the models were trained.
//!
//! ```text
//! text ─ added tokens cut out ─ pre-tokenizer (digits, words) ─ bytes as characters ─ merges ─► ids
//! ids ─ each token's bytes ─ UTF-8 ─► text
//! ```
//!
//! Merging is the `tokenizers` crate's; what comes before it is put together in two ways over one
//! vocabulary: one that recognises control tokens in text ([`ParseSpecial::Yes`]) and one that cannot
//! make a control token at all ([`ParseSpecial::No`]), because neither its added tokens nor its BPE
//! vocabulary hold any.
//!
//! [`chat`] turns messages into ids, [`stream`] turns ids into text as they come.

mod added;
mod bytes;
pub mod chat;
mod classes;
mod gguf;
mod jinja;
mod json;
mod python;
pub mod stream;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Model};

use crate::error::{Error, ErrorKind, Result};
use crate::token::TokenId;
use added::{AddedTokens, Stretch};
use bytes::TokenBytes;
pub use chat::{ChatMessage, ChatRole, ChatTemplate, Piece, RenderOptions};
pub use gguf::GgufVocab;
pub use stream::TextStream;
use words::Words;

/// Ids beyond this are no vocabulary's (the largest in use are some 256 thousand), but a way to make
/// the table of tokens absurdly large.
const MAX_VOCAB: usize = 1 << 20;

/// Whether text may name control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseSpecial {
    /// `<|im_end|>` is ten characters of text. For everything that a user wrote.
    No,
    /// `<|im_end|>` is the control token.
    Yes,
}

/// What to do with control tokens when ids become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowSpecial {
    /// They add nothing.
    No,
    /// They show as their names.
    Yes,
}

/// A model's tokenizer. Immutable; share it freely.
pub struct Tokenizer {
    words: Words,
    /// Holds no control token.
    bpe: BPE,
    /// Added tokens that count in any text (GGUF: "user defined"); no control token.
    plain: AddedTokens,
    /// All added tokens.
    parsing: AddedTokens,
    bytes: TokenBytes,
    control: BTreeMap<u32, String>,
}

impl Tokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAModel`] if it is malformed or contradicts itself,
    /// [`ErrorKind::UnsupportedArchitecture`] if it is no byte-level BPE.
    pub fn from_json(content: &[u8]) -> Result<Self> {
        json::read(content)
            .and_then(Self::build)
            .map_err(|e| e.at("tokenizer.json"))
    }

    /// Builds the tokenizer that a GGUF file's metadata describe.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedArchitecture`] naming a pre-tokenizer that is not known,
    /// [`ErrorKind::NotAModel`] if the vocabulary is malformed or contradicts itself.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self> {
        gguf::read(vocab)
            .and_then(Self::build)
            .map_err(|e| e.at("tokenizer.ggml"))
    }

    fn build(parts: Parts) -> Result<Self> {
        let Parts {
            vocab,
            merges,
            added,
            ignore_merges,
            words,
        } = parts;

        let mut bytes_of: BTreeMap<u32, (&str, Spelling)> = BTreeMap::new();
        for (token, id) in &vocab {
            if let Some((other, _)) = bytes_of.insert(*id, (token.as_str(), Spelling::ByteLevel)) {
                let (a, b) = (token.as_str().min(other), token.as_str().max(other));
                return Err(Error::not_a_model(format!(
                    "tokens {a:?} and {b:?} share the id {id}"
                )));
            }
        }
        let mut added_contents = BTreeSet::new();
        let mut control = BTreeMap::new();
        for (id, token) in &added {
            let content = token.content.as_str();
            if content.is_empty() {
                return Err(Error::not_a_model(format!("added token {id} is empty")));
            }
            if !added_contents.insert(content) {
                return Err(Error::not_a_model(format!(
                    "added token {content:?} stands twice"
                )));
            }
            let clash = match bytes_of.insert(*id, (content, Spelling::Text)) {
                Some((_, Spelling::Text)) => true,
                Some((other, Spelling::ByteLevel)) => other != content,
                None => vocab.contains_key(content),
            };
            if clash {
                return Err(Error::not_a_model(format!(
                    "added token {content:?} and its id {id} do not belong together in the vocabulary"
                )));
            }
            if token.special {
                control.insert(*id, content.to_owned());
            }
        }
        let Some((&last, _)) = bytes_of.last_key_value() else {
            return Err(Error::not_a_model("the vocabulary is empty"));
        };
        if last as usize >= MAX_VOCAB {
            return Err(Error::not_a_model(format!(
                "token {:?} has the id {last}, at most {} is sensible",
                bytes_of[&last].0,
                MAX_VOCAB - 1
            )));
        }
        let mut bytes = TokenBytes::with_capacity(last as usize + 1);
        for id in 0..=last {
            match bytes_of.get(&id) {
                Some((token, Spelling::ByteLevel)) => bytes.push_byte_level(token),
                Some((token, Spelling::Text)) => bytes.push_text(token),
                None => bytes.push_text(""),
            }
        }
        drop(bytes_of);

        let tokens = |control: bool| {
            let wanted = added
                .iter()
                .filter(move |(_, token)| control || !token.special);
            AddedTokens::new(wanted.map(|(id, token)| (*id, token)))
        };
        Ok(Self {
            plain: tokens(false)?,
            parsing: tokens(true)?,
            bpe: checked_bpe(vocab, merges, &control, ignore_merges)?,
            words,
            bytes,
            control,
        })
    }

    /// The ids of `text`. Nothing is added at either end. With [`ParseSpecial::No`] no id is a control
    /// token's, whatever the text. A byte that has no token vanishes, as in the reference.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`] if a word cannot be merged, which byte-level BPE always can.
    pub fn encode(&self, text: &str, special: ParseSpecial) -> Result<Vec<TokenId>> {
        let added = match special {
            ParseSpecial::No => &self.plain,
            ParseSpecial::Yes => &self.parsing,
        };
        let mut ids = Vec::new();
        let mut result = Ok(());
        let mut spelt = String::new();
        added.cut_out(text, |stretch| match stretch {
            Stretch::Added(id) => ids.push(TokenId(id)),
            Stretch::Text(text) => self.words.cut_up(text, |word| {
                spelt.clear();
                spelt.extend(word.bytes().map(bytes::char_of));
                match self.bpe.tokenize(&spelt) {
                    Ok(tokens) => ids.extend(tokens.iter().map(|token| TokenId(token.id))),
                    Err(e) => {
                        let message = format!("{word:?} cannot be tokenized");
                        result = Err(Error::invalid_argument(message).caused_by(e));
                    }
                }
            }),
        });
        result.map(|()| ids)
    }

    /// The text of `ids`, control tokens left out, U+FFFD for what is not UTF-8. An id outside the
    /// vocabulary adds nothing.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        self.decode_with(ids, ShowSpecial::No)
    }

    /// [`Tokenizer::decode`], with a word on control tokens.
    pub fn decode_with(&self, ids: &[TokenId], special: ShowSpecial) -> String {
        let bytes = ids.iter().fold(Vec::new(), |mut bytes, &id| {
            bytes.extend_from_slice(self.shown_bytes(id, special));
            bytes
        });
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        }
    }

    /// What a token adds to a text.
    fn shown_bytes(&self, id: TokenId, special: ShowSpecial) -> &[u8] {
        if special == ShowSpecial::No && self.is_special(id) {
            return &[];
        }
        self.bytes.get(id.0).unwrap_or_default()
    }

    /// The bytes a token stands for (a control token: its name); `None` outside the vocabulary. They
    /// need not be whole UTF-8.
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        self.bytes.get(id.0)
    }

    /// The id of a control token, by its name.
    pub fn special_id(&self, name: &str) -> Option<TokenId> {
        self.specials()
            .find_map(|(id, text)| (text == name).then_some(id))
    }

    /// Whether this is a control token's id.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.control.contains_key(&id.0)
    }

    /// All control tokens with their names, by ascending id.
    pub fn specials(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.control
            .iter()
            .map(|(&id, name)| (TokenId(id), name.as_str()))
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("control", &self.control.len())
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

/// How a token's string writes its bytes.
#[derive(Clone, Copy)]
enum Spelling {
    ByteLevel,
    Text,
}

/// What both sources of a tokenizer come down to.
struct Parts {
    /// In the byte-level alphabet; may hold the added tokens too.
    vocab: Vocab,
    /// By rank.
    merges: Vec<(String, String)>,
    added: Vec<(u32, AddedToken)>,
    /// Take a whole word when the vocabulary has it.
    ignore_merges: bool,
    words: Words,
}

/// The BPE over `vocab` without its control tokens: what is not there, no merge can make.
fn checked_bpe(
    mut vocab: Vocab,
    mut merges: Vec<(String, String)>,
    control: &BTreeMap<u32, String>,
    ignore_merges: bool,
) -> Result<BPE> {
    let mut merged = String::new();
    for (rank, (a, b)) in merges.iter().enumerate() {
        merged.clear();
        merged.extend([a.as_str(), b]);
        if let Some(missing) = [a, b, &merged]
            .into_iter()
            .find(|t| !vocab.contains_key(*t))
        {
            return Err(Error::not_a_model(format!(
                "merge {rank} ({a:?}, {b:?}): {missing:?} is not in the vocabulary"
            )));
        }
    }
    vocab.retain(|_, id| !control.contains_key(id));
    merges.retain(|(a, b)| {
        vocab.contains_key(a) && vocab.contains_key(b) && vocab.contains_key(&format!("{a}{b}"))
    });
    bpe(vocab, merges, ignore_merges)
}

fn bpe(vocab: Vocab, merges: Vec<(String, String)>, ignore_merges: bool) -> Result<BPE> {
    BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(ignore_merges)
        // The crate's cache lives in a thread-local that outlasts the tokenizer.
        .cache_capacity(0)
        .build()
        .map_err(|e| Error::not_a_model("the merges do not fit the vocabulary").caused_by(e))
}

/// [`ErrorKind::UnsupportedArchitecture`].
fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedArchitecture, message)
}
