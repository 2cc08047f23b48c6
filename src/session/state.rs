//! A session's cache as bytes, so that it can be put down and taken up again: on another day, in another process, on another
//! processor, all of which compute the same bits.
//!
//! ```text
//! head      "smollmkv", version: u32, tokens: u32, digest of the model: 32 bytes, checksum
//! ids       tokens × u32, checksum
//! blocks    of 32 positions each, the last perhaps of fewer: keys and values (`KvCache::save_position`), checksum
//! ```
//!
//! Numbers are little-endian. A checksum is the XXH64 of its part, seeded with the checksum before: parts of two files do not
//! fit together. Bytes count as damaged until their checksum is right, and nothing is allocated for a number that
//! has not been checked. Writing and reading go part by part, so that nobody ever holds a second copy of the cache.

use super::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::model::DIGEST_BYTES;
use crate::token::TokenId;
use twox_hash::XxHash64;

/// Of this form, of what the cache holds, and of the arithmetic that computes it. Raised when any of them changes a single
/// bit; a test knows when that is (`tests/state.rs`).
pub const STATE_VERSION: u32 = 1;

/// Positions that are written and read in one step.
const BLOCK: usize = 32;

const MAGIC: [u8; 8] = *b"smollmkv";
const CHECKSUM: usize = size_of::<u64>();
/// Magic, version.
const FORM: usize = MAGIC.len() + size_of::<u32>();
/// These, tokens, digest.
const HEAD: usize = FORM + size_of::<u32>() + DIGEST_BYTES;

/// Writes what a session's cache holds, part by part.
#[derive(Debug)]
pub struct StateWriter {
    ids: Vec<TokenId>,
    digest: [u8; DIGEST_BYTES],
    position_bytes: usize,
    part: Part,
    /// Of the part before.
    checksum: u64,
}

/// What is written or read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Ids,
    /// The block that begins with this position.
    Block(usize),
}

impl StateWriter {
    /// Of what `session` holds now.
    pub fn new(session: &Session) -> Self {
        Self {
            ids: session.cached.clone(),
            digest: *session.model.digest(),
            position_bytes: session.cache.position_bytes(),
            part: Part::Head,
            checksum: 0,
        }
    }

    /// Tokens whose keys and values are written.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Bytes of all parts together.
    pub fn bytes(&self) -> u64 {
        let parts = 2 + self.ids.len().div_ceil(BLOCK);
        let token = size_of::<u32>() + self.position_bytes;
        (HEAD + parts * CHECKSUM) as u64 + self.ids.len() as u64 * token as u64
    }

    /// The next part; `None` after the last one. The session may have gone on meanwhile, as long as it still holds the
    /// tokens that it held at the beginning.
    ///
    /// # Errors
    /// `invalid_argument` where it does not.
    pub fn next(&mut self, session: &Session) -> Result<Option<Vec<u8>>> {
        if *session.model.digest() != self.digest || !session.cached.starts_with(&self.ids) {
            return Err(Error::invalid_argument(
                "the conversation is not the one that began to be saved",
            ));
        }
        let tokens = self.ids.len();
        let mut part = Vec::new();
        self.part = match self.part {
            Part::Head => {
                part.reserve_exact(HEAD + CHECKSUM);
                part.extend_from_slice(&MAGIC);
                part.extend_from_slice(&STATE_VERSION.to_le_bytes());
                part.extend_from_slice(&(tokens as u32).to_le_bytes());
                part.extend_from_slice(&self.digest);
                Part::Ids
            }
            Part::Ids => {
                part.reserve_exact(tokens * size_of::<u32>() + CHECKSUM);
                part.extend(self.ids.iter().flat_map(|id| id.0.to_le_bytes()));
                Part::Block(0)
            }
            Part::Block(start) if start == tokens => return Ok(None),
            Part::Block(start) => {
                let end = tokens.min(start + BLOCK);
                part.reserve_exact((end - start) * self.position_bytes + CHECKSUM);
                for position in start..end {
                    session.cache.save_position(position, &mut part);
                }
                Part::Block(end)
            }
        };
        self.checksum = XxHash64::oneshot(self.checksum, &part);
        part.extend_from_slice(&self.checksum.to_le_bytes());
        Ok(Some(part))
    }
}

/// Reads what a [`StateWriter`] wrote into a session, in chunks of any size. What the session held before is forgotten once
/// the beginning has proved to be of its model.
#[derive(Debug)]
pub struct StateReader {
    part: Part,
    /// Of the part before.
    checksum: u64,
    tokens: usize,
    ids: Vec<TokenId>,
    /// What has come of the part at hand.
    bytes: Vec<u8>,
    failed: bool,
}

impl Default for StateReader {
    fn default() -> Self {
        Self::new()
    }
}

impl StateReader {
    /// Nothing is read yet.
    pub fn new() -> Self {
        Self {
            part: Part::Head,
            checksum: 0,
            tokens: 0,
            ids: Vec::new(),
            bytes: Vec::new(),
            failed: false,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `busy` while an answer is under way; `integrity` for bytes that are no saved conversation, or a damaged one;
    /// `invalid_argument` where another version of the engine or another model saved it, or where something else has used
    /// the session meanwhile; `context_overflow` where it does not fit. The reader is of no more use then. The session
    /// is as it was, or holds nothing where a part of it had been replaced by what proved to be damaged.
    pub fn feed(&mut self, session: &mut Session, chunk: &[u8]) -> Result<()> {
        let result = self.take(session, chunk);
        if result.is_err() {
            self.fail(session);
        }
        result
    }

    /// Says that the last byte was fed; gives the number of tokens that the session holds now.
    ///
    /// # Errors
    /// `integrity` where bytes are missing; then as [`feed`](Self::feed).
    pub fn finish(mut self, session: &mut Session) -> Result<usize> {
        let result = self.check(session).and_then(|()| {
            if self.part_bytes(session).is_none() {
                Ok(self.tokens)
            } else {
                Err(damaged("it is truncated"))
            }
        });
        if result.is_err() {
            self.fail(session);
        }
        result
    }

    /// Leaves nothing of a damaged conversation behind.
    fn fail(&mut self, session: &mut Session) {
        if let Part::Block(done) = self.part
            && session.cached == self.ids[..done]
        {
            session.forget();
        }
        self.failed = true;
    }

    /// Whether the session is still the one that was fed to.
    fn check(&self, session: &Session) -> Result<()> {
        if self.failed {
            return Err(Error::invalid_argument(
                "this saved conversation was refused already",
            ));
        }
        if session.run.is_some() {
            return Err(Error::new(
                ErrorKind::Busy,
                "an answer is under way: finish or abort it first",
            ));
        }
        match self.part {
            Part::Block(done) if session.cached != self.ids[..done] => Err(
                Error::invalid_argument("the session was used while a conversation was restored"),
            ),
            _ => Ok(()),
        }
    }

    fn take(&mut self, session: &mut Session, mut chunk: &[u8]) -> Result<()> {
        self.check(session)?;
        while !chunk.is_empty() {
            let wanted = self
                .part_bytes(session)
                .ok_or_else(|| damaged("it goes on after its end"))?;
            let missing = wanted - self.bytes.len();
            let (now, rest) = chunk.split_at(missing.min(chunk.len()));
            self.bytes.reserve_exact(missing);
            self.bytes.extend_from_slice(now);
            chunk = rest;
            if self.bytes.len() == wanted {
                let part = std::mem::take(&mut self.bytes);
                self.part = self.read(session, &part)?;
            }
        }
        Ok(())
    }

    /// Bytes of the part at hand, its checksum included; `None` after the last one.
    fn part_bytes(&self, session: &Session) -> Option<usize> {
        let bytes = match self.part {
            Part::Head => HEAD,
            Part::Ids => self.tokens * size_of::<u32>(),
            Part::Block(start) if start == self.tokens => return None,
            Part::Block(start) => BLOCK.min(self.tokens - start) * session.cache.position_bytes(),
        };
        Some(bytes + CHECKSUM)
    }

    /// Reads a whole part; gives what comes next.
    fn read(&mut self, session: &mut Session, part: &[u8]) -> Result<Part> {
        let (part, checksum) = part.split_at(part.len() - CHECKSUM);
        if self.part == Part::Head {
            check_form(part)?;
        }
        self.checksum = XxHash64::oneshot(self.checksum, part);
        if checksum != self.checksum.to_le_bytes() {
            return Err(damaged("a checksum is wrong"));
        }
        match self.part {
            Part::Head => self.read_head(session, &part[FORM..]),
            Part::Ids => self.read_ids(session, part),
            Part::Block(start) => {
                let positions = part.chunks_exact(session.cache.position_bytes());
                let end = start + positions.len();
                for position in positions {
                    session.cache.restore_position(position)?;
                }
                session.cached.extend_from_slice(&self.ids[start..end]);
                Ok(Part::Block(end))
            }
        }
    }

    fn read_head(&mut self, session: &Session, head: &[u8]) -> Result<Part> {
        let (tokens, digest) = head.split_at(size_of::<u32>());
        let tokens = u32::from_le_bytes(tokens.as_chunks().0[0]);
        if digest != session.model.digest() {
            return Err(Error::invalid_argument(
                "the conversation was saved with another model",
            ));
        }
        self.tokens = tokens as usize;
        let context = session.context_length();
        if self.tokens > context {
            return Err(Error::new(
                ErrorKind::ContextOverflow,
                format!(
                    "the saved conversation of {tokens} tokens does not fit into a context of {context}"
                ),
            ));
        }
        Ok(Part::Ids)
    }

    fn read_ids(&mut self, session: &mut Session, part: &[u8]) -> Result<Part> {
        let vocab = session.model.config().vocab_size;
        let ids = part.as_chunks().0.iter();
        self.ids = ids.map(|id| TokenId(u32::from_le_bytes(*id))).collect();
        if self.ids.iter().any(|id| id.0 as usize >= vocab) {
            return Err(damaged("a token is not of the vocabulary"));
        }
        session.forget();
        Ok(Part::Block(0))
    }
}

/// Whether the rest can be understood; what another version writes after its number is not known.
fn check_form(head: &[u8]) -> Result<()> {
    let (magic, version) = head[..FORM].split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it does not begin as one"));
    }
    let version = u32::from_le_bytes(version.as_chunks().0[0]);
    if version != STATE_VERSION {
        return Err(Error::invalid_argument(format!(
            "the conversation was saved by another version of the engine: {version}, this is {STATE_VERSION}"
        )));
    }
    Ok(())
}

fn damaged(how: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        format!("the saved conversation is damaged: {how}"),
    )
}
