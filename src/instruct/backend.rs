//! One way to ask any model, whatever answers behind it.

use super::{InstructModel, Request, RequestOptions};
use crate::error::Result;
use crate::session::LanguageModel;

/// What turns a prompt into an answer. [`ModelRegistry`](crate::registry::ModelRegistry) keeps them by
/// the model's id.
pub trait ModelBackend {
    /// Answers `prompt`. One that starts with `chat:` or `conversation:` is said in the conversation,
    /// which remembers it; one that starts with `instruct:`, and every other, is an instruction of its
    /// own. The prefix is not part of what the model reads.
    ///
    /// # Errors
    /// As [`InstructModel::start`] and [`InstructModel::step`].
    fn generate_text(&mut self, prompt: &str, config: &RequestOptions) -> Result<String>;
}

impl<M: LanguageModel> ModelBackend for InstructModel<M> {
    fn generate_text(&mut self, prompt: &str, config: &RequestOptions) -> Result<String> {
        let answer = self.answer(route(prompt, config.clone()), |_| {})?;
        Ok(answer.text)
    }
}

/// The request that `prompt` means, by its prefix.
fn route(prompt: &str, options: RequestOptions) -> Request {
    let said = ["chat:", "conversation:"]
        .iter()
        .find_map(|prefix| prompt.strip_prefix(prefix));
    match said {
        Some(message) => Request::Chat {
            message: message.trim_start().to_owned(),
            options,
        },
        None => Request::Instruct {
            instruction: prompt
                .strip_prefix("instruct:")
                .map_or(prompt, str::trim_start)
                .to_owned(),
            options,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_decides_and_is_stripped() {
        for (prompt, expected) in [
            ("chat: Hi", Request::chat("Hi")),
            ("conversation:Hi", Request::chat("Hi")),
            ("instruct: Count", Request::instruct("Count")),
            ("Count", Request::instruct("Count")),
            ("chat about cats", Request::instruct("chat about cats")),
            ("Let us chat: hi", Request::instruct("Let us chat: hi")),
            ("chat: instruct: x", Request::chat("instruct: x")),
        ] {
            assert_eq!(route(prompt, RequestOptions::default()), expected);
        }
    }
}
