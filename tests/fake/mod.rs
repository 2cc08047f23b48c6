//! A model without weights, whose logits depend on every token before them: whatever a session gets
//! wrong about its cache shows in what the model says.
#![allow(dead_code)] // each test file uses its part

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smollm_web::session::{Cache, FinishReason, LanguageModel, Session, Step, Usage};
use smollm_web::tokenizer::{ParseSpecial, Tokenizer};
use smollm_web::{Error, ErrorKind, Result, TokenId};

/// The tiny models' tokenizer: 512 tokens, ChatML's control tokens among them.
pub fn tokenizer() -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models/llama-tied/tokenizer.json");
    let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Arc::new(Tokenizer::from_json(&json).expect("the fixture is a tokenizer"))
}

/// `<|im_end|>` and `<|endoftext|>`.
pub fn end_tokens(tokenizer: &Tokenizer) -> Vec<TokenId> {
    ["<|im_end|>", "<|endoftext|>"]
        .iter()
        .map(|name| tokenizer.special_id(name).expect("a control token"))
        .collect()
}

pub fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    tokenizer.encode(text, ParseSpecial::No).expect("encodable")
}

/// What the model answers with.
enum Voice {
    /// A hash of all tokens so far.
    Hash,
    /// These tokens, after the first `usize` ones; past their end, the first end token.
    Script(usize, Vec<TokenId>),
}

pub struct FakeModel {
    tokenizer: Arc<Tokenizer>,
    voice: Voice,
    /// Whether it never says an end token.
    endless: bool,
    /// Tokens evaluated so far.
    pub evaluated: AtomicUsize,
    /// Most tokens evaluated at once.
    pub largest_piece: AtomicUsize,
    /// Calls left before one fails half-way; 0 means none will.
    pub fail_in: AtomicUsize,
}

impl FakeModel {
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Self {
        Self {
            tokenizer: Arc::clone(tokenizer),
            voice: Voice::Hash,
            endless: false,
            evaluated: AtomicUsize::new(0),
            largest_piece: AtomicUsize::new(0),
            fail_in: AtomicUsize::new(0),
        }
    }

    /// A model that talks until it is stopped.
    pub fn endless(tokenizer: &Arc<Tokenizer>) -> Self {
        Self {
            endless: true,
            ..Self::new(tokenizer)
        }
    }

    /// A model that says `answer` after `prompt_tokens` tokens.
    pub fn scripted(
        tokenizer: &Arc<Tokenizer>,
        prompt_tokens: usize,
        answer: Vec<TokenId>,
    ) -> Self {
        Self {
            voice: Voice::Script(prompt_tokens, answer),
            ..Self::new(tokenizer)
        }
    }

    fn append(&self, ids: &[TokenId], cache: &mut FakeCache) -> Result<()> {
        assert!(!ids.is_empty(), "a model is never asked to read nothing");
        assert!(cache.ids.len() + ids.len() <= cache.capacity, "overrun");
        self.largest_piece.fetch_max(ids.len(), Ordering::Relaxed);
        let fails = self
            .fail_in
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            == Ok(1);
        if fails {
            // A model that fails may leave more behind than before, or nothing at all.
            if ids.len().is_multiple_of(2) {
                cache.ids.extend(&ids[..ids.len() / 2]);
            } else {
                cache.ids.clear();
            }
            return Err(Error::new(ErrorKind::OutOfMemory, "injected failure"));
        }
        cache.ids.extend(ids);
        self.evaluated.fetch_add(ids.len(), Ordering::Relaxed);
        Ok(())
    }
}

pub struct FakeCache {
    ids: Vec<TokenId>,
    capacity: usize,
}

impl LanguageModel for FakeModel {
    type Cache = FakeCache;

    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn new_cache(&self, capacity: usize) -> Result<FakeCache> {
        Ok(FakeCache {
            ids: Vec::new(),
            capacity,
        })
    }

    fn extend(&self, ids: &[TokenId], cache: &mut FakeCache) -> Result<()> {
        self.append(ids, cache)
    }

    fn next_logits(&self, ids: &[TokenId], cache: &mut FakeCache) -> Result<Vec<f32>> {
        self.append(ids, cache)?;
        let vocab = self.vocab_size();
        Ok(match &self.voice {
            Voice::Hash => {
                let prefix = cache.ids.iter().fold(0, |hash, id| mix(hash, id.0));
                let mut logits: Vec<f32> = (0..vocab as u32)
                    .map(|id| mix(prefix, id) as f32 / u64::MAX as f32 * 8.0 - 4.0)
                    .collect();
                if self.endless {
                    for id in end_tokens(&self.tokenizer) {
                        logits[id.0 as usize] = f32::NEG_INFINITY;
                    }
                }
                logits
            }
            Voice::Script(prompt_tokens, answer) => {
                let next = answer
                    .get(cache.ids.len() - prompt_tokens)
                    .copied()
                    .unwrap_or(end_tokens(&self.tokenizer)[0]);
                let mut logits = vec![0.0; vocab];
                logits[next.0 as usize] = 50.0;
                logits
            }
        })
    }
}

impl Cache for FakeCache {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.ids.len() {
            return Err(Error::invalid_argument("truncate: too long"));
        }
        self.ids.truncate(len);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.capacity * size_of::<TokenId>()
    }
}

/// One round of SplitMix64 over a running hash.
pub fn mix(hash: u64, value: u32) -> u64 {
    let mut z = (hash ^ u64::from(value)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// All of a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub ids: Vec<TokenId>,
    pub text: String,
    pub logprobs: Vec<f32>,
    pub finish_reason: FinishReason,
    pub usage: Usage,
}

/// Steps to the end of the generation under way.
pub fn run<M: LanguageModel>(session: &mut Session<M>) -> Result<Said> {
    run_for(session, usize::MAX)
}

/// Steps to the end of the generation under way, or aborts it after so many steps.
pub fn run_for<M: LanguageModel>(session: &mut Session<M>, steps: usize) -> Result<Said> {
    let (mut ids, mut said, mut logprobs) = (Vec::new(), String::new(), Vec::new());
    for count in 0.. {
        let step = if count < steps {
            session.step()?
        } else {
            session.abort().expect("a generation is under way")
        };
        match step {
            Step::Prefill { .. } => {}
            Step::Token {
                id, text, logprob, ..
            } => {
                ids.push(id);
                said += &text;
                logprobs.extend(logprob);
            }
            Step::Done {
                finish_reason,
                text,
                usage,
            } => {
                said += &text;
                return Ok(Said {
                    ids,
                    text: said,
                    logprobs,
                    finish_reason,
                    usage,
                });
            }
        }
    }
    unreachable!("a generation ends")
}
