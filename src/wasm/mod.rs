//! The crate for JavaScript: one class, which translates and does nothing else.
//!
//! Two ways lead to an answer. Alone: [`initialize`](SmolLMInstruct::initialize) fetches the model, and
//! [`chat`](SmolLMInstruct::chat) returns when the answer is complete. Step by step, as the package's
//! worker does it: `begin_load`, `begin_file`, `feed` … `finish_load`, then `start` and `step` until
//! `{"type": "done"}`, so that the host owns the download, the waiting and the stopping.
//!
//! Objects cross as JSON text. Every failure is an `Error` with a `code` ([`ErrorKind`]); after it the
//! object can be used again.

mod fetch;
mod fingerprint;
mod initialize;
mod js_error;
mod kernel;
mod preflight;
mod protocol;
mod state;
mod threads;

pub use fingerprint::FingerprintRun;
pub use kernel::{kernel_name, rival_kernels, select_kernel, try_kernel};
pub use preflight::Preflight;
pub use state::{StateReader, StateWriter};

use std::cell::{RefCell, RefMut};

use wasm_bindgen::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::instruct::{Fields, InstructModel, Request, take_render_options};
use crate::loader::{LoadOptions, LoadedModel, Loader};
use crate::token::TokenId;
use crate::tokenizer::{ChatMessage, ParseSpecial};
use protocol::Info;

/// What the `Result`s of this room become on their way out.
type JsResult<T> = std::result::Result<T, JsValue>;

/// Runs when the module is instantiated.
#[wasm_bindgen(start)]
fn start() {
    // A panic is a bug and ends the instance; without this hook the console would only say "unreachable".
    console_error_panic_hook::set_once();
}

/// A SmolLM model with a conversation.
#[wasm_bindgen]
#[derive(Default)]
pub struct SmolLMInstruct {
    /// Not borrowed across an `await`, so that a call during `initialize` is told `busy`.
    engine: RefCell<Engine>,
}

#[derive(Default)]
enum Engine {
    #[default]
    Empty,
    /// `initialize` is waiting for bytes.
    Fetching,
    /// Between `begin_load` and `finish_load`.
    Loading(Box<Loader>),
    Ready(Box<Ready>),
}

struct Ready {
    model: InstructModel,
    info: Info,
}

impl Ready {
    fn new(loaded: LoadedModel) -> Result<Self> {
        let info = Info::new(&loaded);
        let model = InstructModel::new(loaded)?;
        Ok(Self { model, info })
    }

    /// For what the crate has no source of its own: chance and the day. A request's own values win.
    fn refresh_defaults(&mut self) -> Result<()> {
        let needs_date = self.model.template().needs_date();
        let defaults = self.model.defaults_mut();
        defaults.seed = Some(random_seed()?);
        defaults.date = needs_date.then(today);
        Ok(())
    }
}

#[wasm_bindgen]
impl SmolLMInstruct {
    /// An object without a model.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fetches and loads the model at `model_url`: a `.gguf` file or a directory with a Hugging Face
    /// checkpoint. A model loaded before is let go first: two would not fit.
    ///
    /// # Errors
    /// `busy` while another load is under way, `invalid_argument` for no URL, `network`, `http_status`,
    /// `integrity`, `not_a_model`, `unsupported_architecture`, `unsupported_quantization`,
    /// `out_of_memory`. There is no model then, and this can be called again.
    pub async fn initialize(&self, model_url: String) -> JsResult<()> {
        self.set(Engine::Fetching).map_err(thrown)?;
        let loaded = initialize::load(&model_url, LoadOptions::default()).await;
        let ready = loaded.and_then(Ready::new);
        let (engine, result) = match ready {
            Ok(ready) => (Engine::Ready(Box::new(ready)), Ok(())),
            Err(error) => (Engine::Empty, Err(thrown(error))),
        };
        self.engine.replace(engine);
        result
    }

    /// Says `message` in the conversation and returns the answer; both are remembered.
    ///
    /// # Errors
    /// `invalid_argument` for an empty message, `context_overflow`, `busy`, `engine_lost` without a
    /// model. The conversation is then as it was.
    pub fn chat(&self, message: &str) -> JsResult<String> {
        self.ready(|ready| {
            ready.refresh_defaults()?;
            ready.model.chat(message)
        })
    }

    /// Follows `instruction` outside the conversation, which stays as it is.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    pub fn instruct(&self, instruction: &str) -> JsResult<String> {
        self.ready(|ready| {
            ready.refresh_defaults()?;
            ready.model.instruct(instruction)
        })
    }

    /// Gives the model a part to play and starts the conversation afresh; an empty one takes it away.
    ///
    /// # Errors
    /// `engine_lost` without a model, `busy` during a load.
    pub fn set_system_prompt(&self, prompt: &str) -> JsResult<()> {
        self.ready(|ready| {
            ready.model.set_system_prompt(prompt);
            Ok(())
        })
    }

    /// Forgets the conversation, but not the system prompt.
    ///
    /// # Errors
    /// As [`set_system_prompt`](Self::set_system_prompt).
    pub fn clear_conversation(&self) -> JsResult<()> {
        self.ready(|ready| {
            ready.model.clear_conversation();
            Ok(())
        })
    }

    /// The conversation as JSON: `[{"role": "user", "content": "…"}, …]`.
    ///
    /// # Errors
    /// As [`set_system_prompt`](Self::set_system_prompt).
    pub fn get_conversation_history(&self) -> JsResult<String> {
        self.ready(|ready| Ok(ready.model.history_json()))
    }

    /// What is loaded, as JSON: `{"model", "architecture", "parameters", "quantization",
    /// "context_length", "kernel", "weight_bytes", "memory_bytes"}`.
    ///
    /// # Errors
    /// As [`set_system_prompt`](Self::set_system_prompt).
    pub fn info(&self) -> JsResult<String> {
        self.ready(|ready| Ok(ready.info.to_json()))
    }

    /// Begins to load what [`feed`](Self::feed) will bring, by `{"format": "gguf" | "safetensors",
    /// "context_length"?, "precision"?: "source" | "int8", "files"?: {name: text}}`. A load begun before
    /// is given up, and a model loaded before let go.
    ///
    /// # Errors
    /// `busy` while `initialize` is under way, `invalid_argument`, and whatever is wrong with `files`.
    pub fn begin_load(&self, spec: &str) -> JsResult<()> {
        self.set(Engine::Empty)
            .and_then(|()| protocol::begin_load(spec))
            .and_then(|loader| self.set(Engine::Loading(Box::new(loader))))
            .map_err(thrown)
    }

    /// Begins the weights file `name`.
    ///
    /// # Errors
    /// `not_a_model` where the file before is too short. The load is given up.
    pub fn begin_file(&self, name: &str) -> JsResult<()> {
        self.loading(|loader| loader.begin_file(name))
    }

    /// Takes the next bytes of the file; they are read before this returns.
    ///
    /// # Errors
    /// `not_a_model`, `unsupported_architecture`, `unsupported_quantization`, `out_of_memory`. The load
    /// is given up.
    pub fn feed(&self, chunk: &[u8]) -> JsResult<()> {
        self.loading(|loader| loader.feed(chunk))
    }

    /// Says that the last file has ended; returns [`info`](Self::info).
    ///
    /// # Errors
    /// `not_a_model` where bytes are missing, `out_of_memory`. The load is given up.
    pub fn finish_load(&self) -> JsResult<String> {
        let finish = || {
            let mut engine = self.borrow()?;
            let Engine::Loading(loader) = std::mem::take(&mut *engine) else {
                return Err(no_load());
            };
            let ready = Ready::new(loader.finish()?)?;
            let info = ready.info.to_json();
            *engine = Engine::Ready(Box::new(ready));
            Ok(info)
        };
        finish().map_err(thrown)
    }

    /// The ids of `text`. Only with `parse_special` are control tokens recognised in it.
    ///
    /// # Errors
    /// As [`set_system_prompt`](Self::set_system_prompt).
    pub fn tokenize(&self, text: &str, parse_special: bool) -> JsResult<Vec<u32>> {
        let special = if parse_special {
            ParseSpecial::Yes
        } else {
            ParseSpecial::No
        };
        self.ready(|ready| Ok(raw(ready.model.tokenizer().encode(text, special)?)))
    }

    /// The text of `ids`, to which control tokens add nothing.
    ///
    /// # Errors
    /// As [`set_system_prompt`](Self::set_system_prompt).
    pub fn detokenize(&self, ids: Vec<u32>) -> JsResult<String> {
        let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
        self.ready(|ready| Ok(ready.model.tokenizer().decode(&ids)))
    }

    /// How many tokens the prompt of `messages` (JSON) has; `options` (JSON) may hold
    /// `add_generation_prompt`, `tools`, `xml_tools`, `python_tools`, `enable_thinking` and `date`.
    ///
    /// # Errors
    /// `invalid_argument` naming what is wrong with them.
    pub fn count_messages(&self, messages: &str, options: &str) -> JsResult<usize> {
        self.ready(|ready| Ok(encode(ready, messages, options)?.len()))
    }

    /// The prompt of `messages`, as [`count_messages`](Self::count_messages) takes them.
    ///
    /// # Errors
    /// As [`count_messages`](Self::count_messages).
    pub fn encode_messages(&self, messages: &str, options: &str) -> JsResult<Vec<u32>> {
        self.ready(|ready| Ok(raw(encode(ready, messages, options)?)))
    }

    /// Begins to answer a request, as [`Request::from_json`] reads it; returns `{"prompt_tokens",
    /// "cached_tokens", "dropped": [{"role", "content"}]}`. A request without a seed gets one by chance.
    ///
    /// # Errors
    /// `invalid_argument` naming the field, `context_overflow`, `busy`, `engine_lost`.
    pub fn start(&self, request: &str) -> JsResult<String> {
        self.ready(|ready| {
            let request = Request::from_json(request)?;
            ready.refresh_defaults()?;
            Ok(protocol::to_json(&ready.model.start(request)?))
        })
    }

    /// One step of the answer: `{"type": "prefill", "done", "total"}`, `{"type": "token", "id", "text"}`
    /// or `{"type": "done", "finish_reason", "text", "usage"}`.
    ///
    /// # Errors
    /// `invalid_argument` where nothing was started.
    pub fn step(&self) -> JsResult<String> {
        self.ready(|ready| {
            let step = ready.model.step()?;
            Ok(protocol::step(&step, ready.model.tokenizer()))
        })
    }

    /// Ends the answer under way, and returns its `done`.
    ///
    /// # Errors
    /// `invalid_argument` where nothing was started.
    pub fn abort(&self) -> JsResult<String> {
        self.ready(|ready| {
            let done = ready.model.abort().ok_or_else(|| {
                Error::invalid_argument("no answer is under way: there is nothing to abort")
            })?;
            Ok(protocol::step(&done, ready.model.tokenizer()))
        })
    }
}

impl SmolLMInstruct {
    fn borrow(&self) -> Result<RefMut<'_, Engine>> {
        match self.engine.try_borrow_mut() {
            Ok(engine) if !matches!(*engine, Engine::Fetching) => Ok(engine),
            _ => Err(Error::new(ErrorKind::Busy, "a model is being loaded")),
        }
    }

    fn set(&self, engine: Engine) -> Result<()> {
        *self.borrow()? = engine;
        Ok(())
    }

    fn ready<T>(&self, call: impl FnOnce(&mut Ready) -> Result<T>) -> JsResult<T> {
        let call = || match &mut *self.borrow()? {
            Engine::Ready(ready) => call(ready),
            _ => Err(Error::new(ErrorKind::EngineLost, "no model is loaded")),
        };
        call().map_err(thrown)
    }

    /// Runs a step of loading; a load that failed is over.
    fn loading(&self, call: impl FnOnce(&mut Loader) -> Result<()>) -> JsResult<()> {
        let call = || {
            let mut engine = self.borrow()?;
            let Engine::Loading(loader) = &mut *engine else {
                return Err(no_load());
            };
            let result = call(loader);
            if result.is_err() {
                *engine = Engine::Empty;
            }
            result
        };
        call().map_err(thrown)
    }
}

fn thrown(error: Error) -> JsValue {
    js_error::to_js(&error)
}

fn no_load() -> Error {
    Error::invalid_argument("no load is under way: begin_load comes first")
}

fn raw(ids: Vec<TokenId>) -> Vec<u32> {
    ids.into_iter().map(|id| id.0).collect()
}

fn encode(ready: &Ready, messages_json: &str, options: &str) -> Result<Vec<TokenId>> {
    let list = serde_json::from_str(messages_json).map_err(|e| {
        Error::invalid_argument(format!("messages: not valid JSON: {e}")).caused_by(e)
    })?;
    let messages = ChatMessage::list_from_json(&list)?;
    let mut fields = Fields::parse(options)?;
    let add_generation_prompt = fields.bool("add_generation_prompt")?.unwrap_or(false);
    let mut options = take_render_options(&mut fields)?;
    fields.finish()?;
    options.add_generation_prompt = add_generation_prompt;
    if options.date.is_none() && ready.model.template().needs_date() {
        options.date = Some(today());
    }
    ready
        .model
        .template()
        .encode(ready.model.tokenizer(), &messages, &options)
}

/// A seed from the browser's source of randomness.
fn random_seed() -> Result<u64> {
    getrandom_04::u64().map_err(|e| {
        Error::new(
            ErrorKind::UnsupportedBrowser,
            "crypto.getRandomValues is missing",
        )
        .caused_by(e.to_string())
    })
}

/// The visitor's day, `2025-07-08`: the one clock of the crate.
fn today() -> String {
    let now = js_sys::Date::new_0();
    let (year, month, day) = (now.get_full_year(), now.get_month() + 1, now.get_date());
    format!("{year:04}-{month:02}-{day:02}")
}

/// Bytes of the engine's whole memory.
fn memory_bytes() -> usize {
    const PAGE: usize = 64 * 1024;
    core::arch::wasm32::memory_size::<0>() * PAGE
}
