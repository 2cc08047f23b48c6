//! What a caller may ask for, in Rust and as JSON.

use serde_json::Value;

use super::fields::Fields;
use crate::error::{Error, Result};
use crate::registry::SamplingDefaults;
use crate::sampler::SamplingParams;
use crate::session::GenerateOptions;
use crate::tokenizer::{ChatMessage, RenderOptions};

/// The most tokens an answer gets where nobody says.
pub const DEFAULT_MAX_TOKENS: usize = 512;

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Continue these messages, knowing nothing else (OpenAI's way).
    Completion {
        /// The conversation, oldest first.
        messages: Vec<ChatMessage>,
        /// How.
        options: RequestOptions,
    },
    /// Say this in the conversation, and remember it and the answer.
    Chat {
        /// What the user says.
        message: String,
        /// How.
        options: RequestOptions,
    },
    /// Follow this instruction, under the system prompt but outside the conversation.
    Instruct {
        /// What to do.
        instruction: String,
        /// How.
        options: RequestOptions,
    },
}

impl Request {
    /// A chat message with the model's own settings.
    pub fn chat(message: impl Into<String>) -> Self {
        Self::Chat {
            message: message.into(),
            options: RequestOptions::default(),
        }
    }

    /// An instruction with the model's own settings.
    pub fn instruct(instruction: impl Into<String>) -> Self {
        Self::Instruct {
            instruction: instruction.into(),
            options: RequestOptions::default(),
        }
    }

    /// Reads `{"kind": "completion", "messages": […], …}`, `{"kind": "chat", "message": "…", …}` or
    /// `{"kind": "instruct", "instruction": "…", …}` with [`RequestOptions`] among the fields.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the field: missing, unknown, or of
    /// a wrong type or value.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut fields = Fields::parse(json)?;
        let kind = Fields::required("kind", fields.text("kind")?)?;
        let request = match kind.as_str() {
            "completion" => Self::Completion {
                messages: messages(&mut fields)?,
                options: RequestOptions::take(&mut fields)?,
            },
            "chat" => Self::Chat {
                message: Fields::required("message", fields.text("message")?)?,
                options: RequestOptions::take(&mut fields)?,
            },
            "instruct" => Self::Instruct {
                instruction: Fields::required("instruction", fields.text("instruction")?)?,
                options: RequestOptions::take(&mut fields)?,
            },
            _ => {
                return Err(Error::invalid_argument(format!(
                    "kind: expected completion, chat or instruct, found {kind:?}"
                )));
            }
        };
        fields.finish()?;
        Ok(request)
    }

    /// How the question is to be answered.
    pub fn options(&self) -> &RequestOptions {
        match self {
            Self::Completion { options, .. }
            | Self::Chat { options, .. }
            | Self::Instruct { options, .. } => options,
        }
    }
}

/// Takes `messages`, which must be there.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the message.
pub fn messages(fields: &mut Fields) -> Result<Vec<ChatMessage>> {
    ChatMessage::list_from_json(&Fields::required("messages", fields.any("messages"))?)
}

/// Settings of one request; what is `None` comes from the model's defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOptions {
    /// See [`SamplingParams::temperature`].
    pub temperature: Option<f32>,
    /// See [`SamplingParams::top_k`].
    pub top_k: Option<usize>,
    /// See [`SamplingParams::top_p`].
    pub top_p: Option<f32>,
    /// See [`SamplingParams::min_p`].
    pub min_p: Option<f32>,
    /// See [`SamplingParams::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// See [`SamplingParams::seed`].
    pub seed: Option<u64>,
    /// The most tokens to generate; else [`DEFAULT_MAX_TOKENS`], or as many as fit.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer and are not part of it.
    pub stop: Option<Vec<String>>,
    /// Whether to report each token's log-probability.
    pub logprobs: Option<bool>,
    /// How many alternatives to report with it.
    pub top_logprobs: Option<usize>,
    /// See [`RenderOptions::enable_thinking`].
    pub enable_thinking: Option<bool>,
    /// See [`RenderOptions::date`].
    pub date: Option<String>,
    /// See [`RenderOptions::tools`].
    pub tools: Option<Value>,
    /// See [`RenderOptions::xml_tools`].
    pub xml_tools: Option<Value>,
    /// See [`RenderOptions::python_tools`].
    pub python_tools: Option<Value>,
}

impl From<SamplingDefaults> for RequestOptions {
    fn from(sampling: SamplingDefaults) -> Self {
        Self {
            temperature: Some(sampling.temperature),
            top_p: Some(sampling.top_p),
            ..Self::default()
        }
    }
}

impl RequestOptions {
    /// Takes the options among a request's fields and leaves the others.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming a field of a wrong type.
    pub fn take(fields: &mut Fields) -> Result<Self> {
        let render = take_render_options(fields)?;
        Ok(Self {
            temperature: fields.number("temperature")?,
            top_k: fields.count("top_k")?,
            top_p: fields.number("top_p")?,
            min_p: fields.number("min_p")?,
            repetition_penalty: fields.number("repetition_penalty")?,
            seed: fields.seed("seed")?,
            max_tokens: fields.count("max_tokens")?,
            stop: fields.texts("stop")?,
            logprobs: fields.bool("logprobs")?,
            top_logprobs: fields.count("top_logprobs")?,
            enable_thinking: render.enable_thinking,
            date: render.date,
            tools: render.tools,
            xml_tools: render.xml_tools,
            python_tools: render.python_tools,
        })
    }

    /// These options, completed by `defaults`.
    #[must_use]
    pub fn or(&self, defaults: &Self) -> Self {
        fn either<T: Clone>(own: &Option<T>, default: &Option<T>) -> Option<T> {
            own.as_ref().or(default.as_ref()).cloned()
        }
        Self {
            temperature: self.temperature.or(defaults.temperature),
            top_k: self.top_k.or(defaults.top_k),
            top_p: self.top_p.or(defaults.top_p),
            min_p: self.min_p.or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.or(defaults.repetition_penalty),
            seed: self.seed.or(defaults.seed),
            max_tokens: self.max_tokens.or(defaults.max_tokens),
            stop: either(&self.stop, &defaults.stop),
            logprobs: self.logprobs.or(defaults.logprobs),
            top_logprobs: self.top_logprobs.or(defaults.top_logprobs),
            enable_thinking: self.enable_thinking.or(defaults.enable_thinking),
            date: either(&self.date, &defaults.date),
            tools: either(&self.tools, &defaults.tools),
            xml_tools: either(&self.xml_tools, &defaults.xml_tools),
            python_tools: either(&self.python_tools, &defaults.python_tools),
        }
    }

    /// What the session is told.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming a field whose value is out of range.
    pub fn generate_options(&self) -> Result<GenerateOptions> {
        let usual = SamplingParams::default();
        let logprobs = match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (true, top) => Some(top.unwrap_or(0)),
            (false, None | Some(0)) => None,
            (false, Some(_)) => {
                return Err(Error::invalid_argument(
                    "top_logprobs: needs logprobs to be true",
                ));
            }
        };
        let options = GenerateOptions {
            sampling: SamplingParams {
                temperature: self.temperature.unwrap_or(usual.temperature),
                top_k: self.top_k.unwrap_or(usual.top_k),
                top_p: self.top_p.unwrap_or(usual.top_p),
                min_p: self.min_p.unwrap_or(usual.min_p),
                repetition_penalty: self.repetition_penalty.unwrap_or(usual.repetition_penalty),
                seed: self.seed.unwrap_or(usual.seed),
            },
            max_tokens: Some(self.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
            stop: self.stop.clone().unwrap_or_default(),
            logprobs,
        };
        options.validate()?;
        Ok(options)
    }

    /// What the template is told, the head of the answer included.
    pub fn render_options(&self) -> RenderOptions {
        RenderOptions {
            add_generation_prompt: true,
            tools: self.tools.clone(),
            xml_tools: self.xml_tools.clone(),
            python_tools: self.python_tools.clone(),
            enable_thinking: self.enable_thinking,
            date: self.date.clone(),
        }
    }
}

/// Takes what a template may be told; `add_generation_prompt` is false where it is absent, as in
/// transformers.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming a field of a wrong type.
pub fn take_render_options(fields: &mut Fields) -> Result<RenderOptions> {
    Ok(RenderOptions {
        add_generation_prompt: false,
        tools: fields.any("tools"),
        xml_tools: fields.any("xml_tools"),
        python_tools: fields.any("python_tools"),
        enable_thinking: fields.bool("enable_thinking")?,
        date: fields.text("date")?,
    })
}
