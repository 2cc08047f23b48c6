//! SmolLM language models in any browser tab, on the CPU, with no server behind them.
#![deny(unsafe_code)]

pub mod config;
pub mod error;
pub mod instruct;
pub mod int4;
pub mod kernels;
pub mod loader;
pub mod model;
pub mod registry;
pub mod sampler;
pub mod session;
pub mod token;
pub mod tokenizer;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
pub mod weights;

pub use config::{Architecture, ModelConfig};
pub use error::{Error, ErrorKind, Result};
pub use token::{Position, TokenId};
