//! Messages → prompt. The only place that knows a template.
//!
//! A model's own template (Jinja, as in its `tokenizer_config.json`, `chat_template.jinja` or GGUF
//! metadata) is rendered as transformers renders it; the three SmolLM templates are built in.
//!
//! **User text never becomes a control token.** [`ChatTemplate::encode`] does not look for control tokens
//! in the rendered text. It replaces them in the *template* by letters that occur nowhere in the input,
//! renders, and turns these letters, and nothing else, into control ids. So a control token is there only
//! because the template's author wrote it. Whatever users write, and whatever the template makes of that
//! (`"<|im/think_end|>".replace("/think", "")`), is text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use minijinja::Value as Jinja;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{ParseSpecial, Tokenizer, jinja};
use crate::error::{Error, Result};
use crate::token::TokenId;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool gave back.
    Tool,
}

impl ChatRole {
    /// The name templates know.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for ChatRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChatRole {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::System, Self::User, Self::Assistant, Self::Tool]
            .into_iter()
            .find(|role| role.as_str() == name)
            .ok_or_else(|| {
                Error::invalid_argument(format!(
                    "unknown role {name:?}: expected system, user, assistant or tool"
                ))
            })
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: ChatRole,
    /// What is said.
    #[serde(deserialize_with = "content")]
    pub content: String,
}

impl ChatMessage {
    /// A message.
    pub fn new(role: ChatRole, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }

    /// A message of [`ChatRole::System`].
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(ChatRole::System, content)
    }

    /// A message of [`ChatRole::User`].
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(ChatRole::User, content)
    }

    /// A message of [`ChatRole::Assistant`].
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(ChatRole::Assistant, content)
    }

    /// Reads a JSON list of messages in OpenAI's shape: `content` is a string, null (nothing said) or a
    /// list of `{"type": "text", "text": …}`; other fields are not looked at.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the message's number and
    /// what is wrong with it.
    pub fn list_from_json(json: &Value) -> Result<Vec<Self>> {
        let list = json
            .as_array()
            .ok_or_else(|| Error::invalid_argument("messages: expected a list"))?;
        list.iter()
            .enumerate()
            .map(|(i, message)| {
                let role = message["role"]
                    .as_str()
                    .ok_or_else(|| Error::invalid_argument("role: expected a string"))
                    .and_then(str::parse);
                let content = message
                    .get("content")
                    .ok_or_else(|| Error::invalid_argument("content is missing"))
                    .and_then(|value| {
                        content(value).map_err(|e| Error::invalid_argument(e.to_string()))
                    });
                match (role, content) {
                    (Ok(role), Ok(content)) => Ok(Self { role, content }),
                    (Err(e), _) | (_, Err(e)) => Err(e.at(format_args!("message {i}"))),
                }
            })
            .collect()
    }
}

/// The text of a message's content in any of OpenAI's shapes.
fn content<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Parts(Vec<Part>),
        Nothing(()),
    }
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Part {
        Text { text: String },
    }
    match Content::deserialize(deserializer) {
        Ok(Content::Text(text)) => Ok(text),
        Ok(Content::Parts(parts)) => {
            Ok(parts.into_iter().map(|Part::Text { text }| text).collect())
        }
        Ok(Content::Nothing(())) => Ok(String::new()),
        Err(_) => Err(serde::de::Error::custom(
            "content: expected a string or a list of text parts",
        )),
    }
}

/// What a template is told besides the messages. What is not set, the template finds undefined.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RenderOptions {
    /// End with the head of an assistant's message, for the model to go on.
    pub add_generation_prompt: bool,
    /// Tools the model may call: a list of JSON schemas, in OpenAI's shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// SmolLM3: tools to be called by `<tool_call>` and JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xml_tools: Option<Value>,
    /// SmolLM3: tools to be called in Python code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python_tools: Option<Value>,
    /// SmolLM3: think before answering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_thinking: Option<bool>,
    /// Today, for templates that tell the model: `2025-07-08` (formatted as the template asks), or any
    /// other text, told as it is. The crate reads no clock; see [`ChatTemplate::needs_date`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// A stretch of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A control token that the template wrote.
    Control(TokenId),
    /// Text, in which nothing is a control token.
    Text(String),
}

/// A chat template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    /// Names of the model's tokens that a template may use: `bos_token`, `eos_token`, …
    tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// A template in Jinja, as models carry it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotAModel`](crate::ErrorKind::NotAModel) with the line, if it is none.
    pub fn new(source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        jinja::check(&source)
            .map_err(|e| Error::not_a_model(format!("chat template: {e}")).caused_by(e))?;
        Ok(Self::trusted(source))
    }

    /// SmolLM's (v1): plain ChatML.
    pub fn smollm() -> Self {
        Self::trusted(include_str!("templates/smollm-135m-instruct.jinja"))
    }

    /// SmolLM2's: ChatML with a default system message.
    pub fn smollm2() -> Self {
        Self::trusted(include_str!("templates/smollm2-instruct.jinja"))
    }

    /// SmolLM3's: metadata, reasoning modes and tools.
    pub fn smollm3() -> Self {
        Self::trusted(include_str!("templates/smollm3-3b.jinja"))
    }

    fn trusted(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            tokens: BTreeMap::new(),
        }
    }

    /// Tells the template a token's text under a name, such as `bos_token`.
    #[must_use]
    pub fn with_token(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.tokens.insert(name.into(), text.into());
        self
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template tells the model today's date, so that [`RenderOptions::date`] has to be set.
    pub fn needs_date(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// Whether [`RenderOptions::enable_thinking`] makes a difference.
    pub fn has_thinking(&self) -> bool {
        self.source.contains("enable_thinking")
    }

    /// The prompt as text, exactly as transformers' `apply_chat_template(tokenize=False)` gives it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there is no message, if the
    /// template refuses the conversation (with its own words), or if it needs what is not set.
    pub fn render(&self, messages: &[ChatMessage], options: &RenderOptions) -> Result<String> {
        self.render_json(&as_json(messages)?, options)
    }

    /// [`ChatTemplate::render`] of messages as JSON, told to the template as they are: with roles and
    /// fields of its own, if it has any.
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::render`].
    pub fn render_json(&self, messages: &Value, options: &RenderOptions) -> Result<String> {
        run(&self.source, &self.tokens, messages, options)
    }

    /// The prompt as ids: control tokens where the template wrote them, and nowhere else.
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::render`].
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>> {
        self.encode_json(tokenizer, &as_json(messages)?, options)
    }

    /// [`ChatTemplate::encode`] of messages as JSON, as in [`ChatTemplate::render_json`].
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::render`].
    pub fn encode_json(
        &self,
        tokenizer: &Tokenizer,
        messages: &Value,
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        for piece in self.pieces(tokenizer, messages, options)? {
            match piece {
                Piece::Control(id) => ids.push(id),
                Piece::Text(text) => ids.extend(tokenizer.encode(&text, ParseSpecial::No)?),
            }
        }
        Ok(ids)
    }

    /// The prompt as it is before its text is tokenized. No text is empty, and no two stand side by side.
    ///
    /// # Errors
    ///
    /// As [`ChatTemplate::render`].
    pub fn pieces(
        &self,
        tokenizer: &Tokenizer,
        messages: &Value,
        options: &RenderOptions,
    ) -> Result<Vec<Piece>> {
        let mut controls = tokenizer
            .specials()
            .filter(|(_, name)| {
                can_stand_in_a_template(name)
                    && (self.source.contains(name) || self.tokens.values().any(|t| t == name))
            })
            .collect::<Vec<_>>();
        // At each place the longest name counts, as where text is parsed.
        controls.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
        let stand_ins = self.stand_ins(controls.len(), messages, options)?;
        let shield = |text: &str| {
            let mut shielded = String::with_capacity(text.len());
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                let control = controls.iter().position(|(_, name)| rest.starts_with(name));
                shielded.push(control.map_or(c, |i| stand_ins[i]));
                rest = &rest[control.map_or(c.len_utf8(), |i| controls[i].1.len())..];
            }
            shielded
        };
        let tokens = self
            .tokens
            .iter()
            .map(|(name, text)| (name.clone(), shield(text)))
            .collect();
        let rendered = run(&shield(&self.source), &tokens, messages, options)?;

        let mut pieces = Vec::new();
        let mut rest = rendered.as_str();
        while !rest.is_empty() {
            let end = rest.find(stand_ins.as_slice()).unwrap_or(rest.len());
            if end > 0 {
                pieces.push(Piece::Text(rest[..end].to_owned()));
            }
            rest = &rest[end..];
            if let Some(c) = rest.chars().next() {
                let control = stand_ins.iter().position(|&s| s == c);
                pieces.extend(control.map(|i| Piece::Control(controls[i].0)));
                rest = &rest[c.len_utf8()..];
            }
        }
        Ok(pieces)
    }

    /// `count` letters that occur nowhere in what a rendering is made of. Letters, so that templates
    /// neither strip nor escape nor change the case of them; of the supplementary ideographic planes, so
    /// that there are plenty.
    fn stand_ins(
        &self,
        count: usize,
        messages: &Value,
        options: &RenderOptions,
    ) -> Result<Vec<char>> {
        const FIRST: char = '\u{20000}';
        let mut taken = BTreeSet::new();
        let mut note = |text: &str| taken.extend(text.chars().filter(|&c| c >= FIRST));
        note(&self.source);
        self.tokens.values().for_each(|text| note(text));
        options.date.iter().for_each(|date| note(date));
        each_string(messages, &mut note);
        for tools in [&options.tools, &options.xml_tools, &options.python_tools] {
            tools.iter().for_each(|tools| each_string(tools, &mut note));
        }
        // CJK Unified Ideographs Extensions B and G, all of them assigned.
        let stand_ins = (FIRST..='\u{2a6d6}')
            .chain('\u{30000}'..='\u{3134a}')
            .filter(|c| !taken.contains(c))
            .take(count)
            .collect::<Vec<_>>();
        if stand_ins.len() < count {
            return Err(Error::invalid_argument(
                "messages: every ideograph of two planes occurs in them",
            ));
        }
        Ok(stand_ins)
    }
}

/// Whether a control token's name, found in a template's source, is that token and no piece of code:
/// true of names such as `<|im_start|>`, `<s>`, `[INST]`, and false of words.
fn can_stand_in_a_template(name: &str) -> bool {
    name.contains(|c: char| !c.is_alphanumeric() && c != '_' && !c.is_whitespace())
        && !name.contains(['{', '}', '\'', '"', '\\', '\n'])
}

fn each_string(value: &Value, note: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => note(text),
        Value::Array(items) => items.iter().for_each(|item| each_string(item, note)),
        Value::Object(fields) => fields.iter().for_each(|(name, item)| {
            note(name);
            each_string(item, note);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn as_json(messages: &[ChatMessage]) -> Result<Value> {
    serde_json::to_value(messages)
        .map_err(|e| Error::invalid_argument("messages are no JSON").caused_by(e))
}

fn run(
    source: &str,
    tokens: &BTreeMap<String, String>,
    messages: &Value,
    options: &RenderOptions,
) -> Result<String> {
    if messages.as_array().is_none_or(Vec::is_empty) {
        return Err(Error::invalid_argument("messages: there is none"));
    }
    let mut context = tokens
        .iter()
        .map(|(name, text)| (name.as_str(), Jinja::from(text)))
        .collect::<BTreeMap<_, _>>();
    context.insert("messages", jinja::value(messages));
    context.insert(
        "add_generation_prompt",
        options.add_generation_prompt.into(),
    );
    // transformers always tells these two, if only that there are none.
    context.insert(
        "tools",
        options.tools.as_ref().map_or(().into(), jinja::value),
    );
    context.insert("documents", ().into());
    for (name, tools) in [
        ("xml_tools", &options.xml_tools),
        ("python_tools", &options.python_tools),
    ] {
        if let Some(tools) = tools {
            context.insert(name, jinja::value(tools));
        }
    }
    if let Some(thinking) = options.enable_thinking {
        context.insert("enable_thinking", thinking.into());
    }
    jinja::render(source, context.into(), options.date.as_deref()).map_err(|error| {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(e) = cause {
            if let Some(raised) = e.downcast_ref::<jinja::Raised>() {
                return Error::invalid_argument(format!("chat template: {raised}"));
            }
            cause = e.source();
        }
        let hint = if options.date.is_none() && source.contains("strftime_now") {
            " (it tells today's date, and none is set)"
        } else {
            ""
        };
        Error::invalid_argument(format!("chat template: {error}{hint}")).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn openai_shapes_of_content() {
        let list = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": []},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        ]);
        let messages = ChatMessage::list_from_json(&list).unwrap();
        assert_eq!(
            messages,
            [
                ChatMessage::user("a"),
                ChatMessage::assistant(""),
                ChatMessage::user("bc")
            ]
        );
        assert_eq!(
            serde_json::from_value::<Vec<ChatMessage>>(list).unwrap(),
            messages
        );
    }

    #[test]
    fn wrong_messages_name_the_culprit() {
        let error = |list| {
            let error = ChatMessage::list_from_json(&list).unwrap_err();
            assert_eq!(error.code(), "invalid_argument");
            error.to_string()
        };
        assert_eq!(error(json!({})), "messages: expected a list");
        let critic = json!([{"role": "user", "content": ""}, {"role": "critic", "content": ""}]);
        assert_eq!(
            error(critic),
            "message 1: unknown role \"critic\": expected system, user, assistant or tool"
        );
        assert_eq!(
            error(json!([{"role": "user"}])),
            "message 0: content is missing"
        );
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
        assert_eq!(
            error(image),
            "message 0: content: expected a string or a list of text parts"
        );
    }

    #[test]
    fn names_that_may_be_code_are_none() {
        for name in ["<|im_start|>", "<s>", "[INST]", "<｜begin▁of▁sentence｜>"] {
            assert!(can_stand_in_a_template(name), "{name}");
        }
        for name in ["if", "role", "end of text", "{{x}}", "it's", "<\n>"] {
            assert!(!can_stand_in_a_template(name), "{name}");
        }
    }
}
