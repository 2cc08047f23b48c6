//! The one error type. Every failure carries a stable [`ErrorKind`] whose [`code`](ErrorKind::code)
//! JavaScript sees too, and a lower-case message that names the culprit.

use std::error::Error as StdError;
use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the vocabulary shared with JavaScript (`js/errors.js`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The network failed before or while bytes arrived.
    Network,
    /// A server answered with a status that is no success.
    HttpStatus,
    /// Bytes arrived, but their length or SHA-256 is not the promised one.
    Integrity,
    /// The bytes are no model: wrong magic, truncated, inconsistent or absurd.
    NotAModel,
    /// A model, but of a kind this crate cannot run.
    UnsupportedArchitecture,
    /// A tensor's data type cannot be read here.
    UnsupportedQuantization,
    /// Memory could not be had.
    OutOfMemory,
    /// Storage is full.
    StorageFull,
    /// Prompt and answer do not fit into the context.
    ContextOverflow,
    /// An argument is out of its range or of the wrong shape.
    InvalidArgument,
    /// The engine is answering another request.
    Busy,
    /// The caller asked to stop.
    Aborted,
    /// The engine is gone, or was never loaded.
    EngineLost,
    /// The browser lacks something the engine cannot do without.
    UnsupportedBrowser,
}

impl ErrorKind {
    /// The stable code string, the same in every language.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::HttpStatus => "http_status",
            Self::Integrity => "integrity",
            Self::NotAModel => "not_a_model",
            Self::UnsupportedArchitecture => "unsupported_architecture",
            Self::UnsupportedQuantization => "unsupported_quantization",
            Self::OutOfMemory => "out_of_memory",
            Self::StorageFull => "storage_full",
            Self::ContextOverflow => "context_overflow",
            Self::InvalidArgument => "invalid_argument",
            Self::Busy => "busy",
            Self::Aborted => "aborted",
            Self::EngineLost => "engine_lost",
            Self::UnsupportedBrowser => "unsupported_browser",
        }
    }
}

/// An error of this crate.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` whose lower-case `message` names the culprit.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Keeps what caused this error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts the place in front of the message, as in `model.gguf: …`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable code string of [`Error::kind`].
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// [`ErrorKind::NotAModel`].
    pub fn not_a_model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotAModel, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Candle's errors reach the outside only through broken invariants of a model that passed the
/// edge's checks, so they count as "not a model".
impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        Self::not_a_model(format!("tensor operation failed: {e}")).caused_by(e)
    }
}
