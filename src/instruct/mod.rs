//! A model to talk to: a conversation that is remembered, instructions that are not.
//!
//! ```text
//! chat(message)        system + exchanges so far + message → answer, remembered with the message
//! instruct(text)       system + text                       → answer, forgotten
//! completion(messages) messages                            → answer, forgotten
//! ```
//!
//! All three share one [`Session`], so each reuses what the cache holds of a common beginning.

mod backend;
mod fields;
mod request;

use std::sync::Arc;

use serde::Serialize;

pub use backend::ModelBackend;
pub use fields::Fields;
pub use request::{DEFAULT_MAX_TOKENS, Request, RequestOptions, messages, take_render_options};

use crate::error::{Error, Result};
use crate::loader::LoadedModel;
use crate::model::Model;
use crate::session::{FinishReason, LanguageModel, Session, StateReader, Step, Usage, overflow};
use crate::token::TokenId;
use crate::tokenizer::{ChatMessage, ChatTemplate, Tokenizer};

/// The share of the context kept free for the answer before old exchanges are let go.
const RESERVED_FOR_ANSWER: usize = 8;

/// What [`InstructModel::start`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Started {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those that need no evaluation because the cache holds them.
    pub cached_tokens: usize,
    /// Messages that no longer fit, oldest first. The conversation forgets them with this answer.
    pub dropped: Vec<ChatMessage>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was said.
    pub text: String,
    /// The tokens generated, the end token included when it came.
    pub ids: Vec<TokenId>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What was counted.
    pub usage: Usage,
    /// See [`Started::dropped`].
    pub dropped: Vec<ChatMessage>,
}

/// A model with a conversation.
pub struct InstructModel<M: LanguageModel = Model> {
    session: Session<M>,
    template: ChatTemplate,
    defaults: RequestOptions,
    system: Option<ChatMessage>,
    exchanges: Vec<Exchange>,
    pending: Option<Pending>,
}

/// A question and its answer, which stay or go together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    user: ChatMessage,
    assistant: ChatMessage,
}

/// An answer under way.
struct Pending {
    /// What becomes part of the conversation when the answer is complete.
    memory: Option<Memory>,
    said: String,
}

struct Memory {
    user: ChatMessage,
    /// How many of the oldest exchanges did not fit.
    dropped: usize,
}

impl InstructModel {
    /// A conversation with a loaded model, sampled as its authors recommend.
    ///
    /// # Errors
    /// [`OutOfMemory`](crate::ErrorKind::OutOfMemory) where the context cannot be had.
    pub fn new(loaded: LoadedModel) -> Result<Self> {
        let session = Session::new(
            Arc::new(loaded.model),
            Arc::new(loaded.tokenizer),
            loaded.end_tokens,
            loaded.context_length,
        )?;
        Ok(Self::with_session(
            session,
            loaded.template,
            loaded.sampling.into(),
        ))
    }

    /// Takes the next bytes of a saved session, which replaces what the cache holds; the words of the conversation stay as
    /// they are.
    ///
    /// # Errors
    /// As [`StateReader::feed`].
    pub fn restore(&mut self, reader: &mut StateReader, chunk: &[u8]) -> Result<()> {
        reader.feed(&mut self.session, chunk)
    }

    /// Ends what [`restore`](Self::restore) began; gives the number of tokens in the cache.
    ///
    /// # Errors
    /// As [`StateReader::finish`].
    pub fn finish_restore(&mut self, reader: StateReader) -> Result<usize> {
        reader.finish(&mut self.session)
    }
}

impl<M: LanguageModel> InstructModel<M> {
    /// A conversation in `session`, with `defaults` for what a request leaves open.
    pub fn with_session(
        session: Session<M>,
        template: ChatTemplate,
        defaults: RequestOptions,
    ) -> Self {
        Self {
            session,
            template,
            defaults,
            system: None,
            exchanges: Vec::new(),
            pending: None,
        }
    }

    /// The session under the conversation.
    pub fn session(&self) -> &Session<M> {
        &self.session
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.session.tokenizer()
    }

    /// How messages become prompts.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// What a request leaves open is taken from here.
    pub fn defaults(&self) -> &RequestOptions {
        &self.defaults
    }

    /// Changes what a request leaves open.
    pub fn defaults_mut(&mut self) -> &mut RequestOptions {
        &mut self.defaults
    }

    /// Begins to answer. Nothing is evaluated yet; [`step`](Self::step) does that.
    ///
    /// Where a chat message does not fit behind the conversation with room for an answer (`max_tokens`,
    /// at most an eighth of the context), whole oldest exchanges are left out, the system message never.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) while another answer is under way,
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty message or settings out of
    /// range, [`ContextOverflow`](crate::ErrorKind::ContextOverflow) where the prompt alone leaves no
    /// room. The conversation stays as it was.
    pub fn start(&mut self, request: Request) -> Result<Started> {
        let options = request.options().or(&self.defaults);
        let generate = options.generate_options()?;
        let (prompt, memory) = match request {
            Request::Completion { messages, .. } => (self.encode(&messages, &options)?, None),
            Request::Instruct { instruction, .. } => {
                let user = said("instruction", instruction)?;
                (self.encode(&self.prompt(&[], user), &options)?, None)
            }
            Request::Chat { message, .. } => {
                let user = said("message", message)?;
                let (prompt, dropped) = self.fit(&user, &options)?;
                (prompt, Some(Memory { user, dropped }))
            }
        };
        let prepared = self.session.start(prompt, generate)?;
        let dropped = memory.as_ref().map_or(0, |memory| memory.dropped);
        self.pending = Some(Pending {
            memory,
            said: String::new(),
        });
        Ok(Started {
            prompt_tokens: prepared.prompt_tokens,
            cached_tokens: prepared.cached_tokens,
            dropped: flatten(&self.exchanges[..dropped]).collect(),
        })
    }

    /// Goes one step further. With [`Step::Done`] a chat's message and answer become part of the
    /// conversation.
    ///
    /// # Errors
    /// As [`Session::step`]. The conversation is then as it was before the message.
    pub fn step(&mut self) -> Result<Step> {
        match self.session.step() {
            Ok(step) => {
                self.observe(&step);
                Ok(step)
            }
            Err(error) => {
                self.pending = None;
                Err(error)
            }
        }
    }

    /// Stops the answer under way; `None` where there is none. What a chat said so far is remembered
    /// as its answer; if it said nothing yet, the conversation is as it was before the message.
    pub fn abort(&mut self) -> Option<Step> {
        let step = self.session.abort()?;
        self.observe(&step);
        Some(step)
    }

    /// Answers a request to its end, showing `observe` every step.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`step`](Self::step).
    pub fn answer(&mut self, request: Request, mut observe: impl FnMut(&Step)) -> Result<Answer> {
        let Started { dropped, .. } = self.start(request)?;
        let mut text = String::new();
        let mut ids = Vec::new();
        loop {
            let step = self.step()?;
            observe(&step);
            match step {
                Step::Prefill { .. } => {}
                Step::Token {
                    id, text: piece, ..
                } => {
                    ids.push(id);
                    text += &piece;
                }
                Step::Done {
                    finish_reason,
                    text: rest,
                    usage,
                } => {
                    return Ok(Answer {
                        text: text + &rest,
                        ids,
                        finish_reason,
                        usage,
                        dropped,
                    });
                }
            }
        }
    }

    /// Says `message` in the conversation and returns the answer; both are remembered.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn chat(&mut self, message: &str) -> Result<String> {
        Ok(self.answer(Request::chat(message), |_| {})?.text)
    }

    /// Follows `instruction` outside the conversation, which stays as it is.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn instruct(&mut self, instruction: &str) -> Result<String> {
        Ok(self.answer(Request::instruct(instruction), |_| {})?.text)
    }

    /// Gives the model a part to play and starts the conversation afresh. An empty prompt takes the
    /// part away again, so that the template's own default holds. An answer under way is dropped.
    pub fn set_system_prompt(&mut self, prompt: &str) {
        self.clear_conversation();
        self.system = (!prompt.trim().is_empty()).then(|| ChatMessage::system(prompt));
    }

    /// Forgets the conversation, but not the system prompt. An answer under way is dropped.
    pub fn clear_conversation(&mut self) {
        self.session.abort();
        self.pending = None;
        self.exchanges.clear();
    }

    /// The conversation as the model will read it, oldest first: the system prompt if one was set, then
    /// the exchanges. An answer under way is not part of it yet.
    pub fn history(&self) -> Vec<ChatMessage> {
        self.system
            .iter()
            .cloned()
            .chain(flatten(&self.exchanges))
            .collect()
    }

    /// [`history`](Self::history) as JSON: `[{"role": "user", "content": "…"}, …]`.
    pub fn history_json(&self) -> String {
        serde_json::to_string(&self.history()).expect("strings always serialize")
    }

    /// The prompt of `messages`, as a completion would read it.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn encode(
        &self,
        messages: &[ChatMessage],
        options: &RequestOptions,
    ) -> Result<Vec<TokenId>> {
        self.template
            .encode(self.tokenizer(), messages, &options.render_options())
    }

    fn prompt(&self, exchanges: &[Exchange], user: ChatMessage) -> Vec<ChatMessage> {
        self.system
            .iter()
            .cloned()
            .chain(flatten(exchanges))
            .chain([user])
            .collect()
    }

    /// The prompt of the conversation and `user`, and how many of the oldest exchanges it leaves out.
    fn fit(&self, user: &ChatMessage, options: &RequestOptions) -> Result<(Vec<TokenId>, usize)> {
        let context = self.session.context_length();
        let wanted = options.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let reserve = wanted.min(context / RESERVED_FOR_ANSWER).max(1);
        let mut dropped = 0;
        loop {
            let messages = self.prompt(&self.exchanges[dropped..], user.clone());
            let prompt = self.encode(&messages, options)?;
            if prompt.len() + reserve <= context {
                return Ok((prompt, dropped));
            }
            if dropped == self.exchanges.len() {
                // Alone, the message may take what was meant for the answer.
                return if prompt.len() < context {
                    Ok((prompt, dropped))
                } else {
                    Err(overflow(prompt.len(), context))
                };
            }
            dropped += 1;
        }
    }

    /// Collects what is said, and remembers it at the end.
    fn observe(&mut self, step: &Step) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        match step {
            Step::Prefill { .. } => {}
            Step::Token { text, .. } => pending.said += text,
            Step::Done {
                finish_reason,
                text,
                ..
            } => {
                let said = std::mem::take(&mut pending.said) + text;
                let memory = pending.memory.take();
                self.pending = None;
                if let Some(Memory { user, dropped }) = memory
                    && !(said.is_empty() && *finish_reason == FinishReason::Abort)
                {
                    self.exchanges.drain(..dropped);
                    self.exchanges.push(Exchange {
                        user,
                        assistant: ChatMessage::assistant(said),
                    });
                }
            }
        }
    }
}

fn flatten(exchanges: &[Exchange]) -> impl Iterator<Item = ChatMessage> {
    exchanges
        .iter()
        .flat_map(|exchange| [exchange.user.clone(), exchange.assistant.clone()])
}

/// A user's words, which must not be blank: `name` is the field they came in.
fn said(name: &str, text: String) -> Result<ChatMessage> {
    if text.trim().is_empty() {
        return Err(Error::invalid_argument(format!("{name}: empty")));
    }
    Ok(ChatMessage::user(text))
}
