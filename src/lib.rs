//! SmolLM language models in any browser tab, on the CPU, with no server behind them.
//!
//! The data's way, each step a module that knows only those before it:
//!
//! ```text
//! bytes ─ loader ─► weights ─ tensor by tensor ─► model            config, tokenizer and template on the way
//! messages ─ tokenizer::chat ─► ids ─ session ─► model ─► logits ─ sampler ─► id ─ tokenizer::stream ─► text
//! ```
//!
//! [`instruct`] holds a conversation over that, `wasm` gives it to JavaScript, and the binary `smollm` to a
//! terminal. The crate itself does no input or output and reads no clock: bytes are pushed, and text is had
//! step by step.
//!
//! ```
//! use smollm_web::instruct::InstructModel;
//! use smollm_web::loader::{LoadOptions, Loader};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two layers with random weights, as the tests use them: it answers, but what it answers is noise.
//! let file = std::fs::read("tests/fixtures/models/llama-tied.gguf")?;
//! let mut loader = Loader::gguf(LoadOptions::default());
//! for chunk in file.chunks(1 << 16) {
//!     loader.feed(chunk)?;
//! }
//! let mut model = InstructModel::new(loader.finish()?)?;
//! model.set_system_prompt("You answer in one sentence.");
//! let answer = model.chat("Hi, my name is Alice.")?;
//! assert_eq!(model.history().last().unwrap().content, answer);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod config;
pub mod error;
pub mod fingerprint;
pub mod instruct;
pub mod int4;
pub mod kernels;
pub mod loader;
pub mod model;
pub mod registry;
pub mod sampler;
pub mod session;
pub mod survey;
pub mod token;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
pub mod weights;

pub use config::{Architecture, ModelConfig};
pub use error::{Error, ErrorKind, Result};
pub use token::{Position, TokenId};
