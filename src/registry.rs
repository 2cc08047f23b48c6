//! Known models: where their files are, how they talk, how to sample them, and which backend answers
//! for an id.
//!
//! A model need not be known to be loaded; everything that a file says about itself wins over this
//! table.

use crate::config::{Architecture, ModelConfig};
use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which of the built-in chat templates a model was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateKind {
    /// ChatML without a default system message.
    SmolLm,
    /// ChatML with SmolLM2's default system message.
    SmolLm2,
    /// SmolLM3's, with reasoning modes and tools.
    SmolLm3,
}

/// How the authors recommend to sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SamplingDefaults {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// The share of probability that stays, 0..=1.
    pub top_p: f32,
}

impl SamplingDefaults {
    /// The model cards of SmolLM and SmolLM2 Instruct.
    pub const SMOLLM2: Self = Self {
        temperature: 0.2,
        top_p: 0.9,
    };
    /// SmolLM3's model card and `generation_config.json`.
    pub const SMOLLM3: Self = Self {
        temperature: 0.6,
        top_p: 0.95,
    };
}

/// A file whose bytes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PinnedFile {
    /// Relative to the `models/` folder.
    pub path: &'static str,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: &'static str,
}

/// A known model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelEntry {
    /// Stable and lower-case, as `smollm2-135m-instruct`.
    pub id: &'static str,
    /// For people.
    pub label: &'static str,
    /// SPDX id of the weights' licence.
    pub licence: &'static str,
    /// Which forward pass.
    pub architecture: Architecture,
    /// The checkpoint's repository on the Hugging Face hub.
    pub hub: &'static str,
    /// The checkpoint's files there, in the order to fetch them.
    pub files: &'static [&'static str],
    /// Where the site keeps the model, relative to its root.
    pub url: &'static str,
    /// The file that the site's pack is made from, where the site serves one.
    pub source: Option<PinnedFile>,
    /// The template used where the files hold none.
    pub template: TemplateKind,
    /// Control tokens that end an answer.
    pub end_tokens: &'static [&'static str],
    /// How to sample where the files do not say.
    pub sampling: SamplingDefaults,
    /// Number of weights, the tied head counted once.
    pub parameters: u64,
    /// Positions the model was trained for.
    pub context_length: usize,
}

const CHECKPOINT: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "model.safetensors",
];
const CHECKPOINT_SMOLLM3: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];
const CHATML_END: &[&str] = &["<|im_end|>", "<|endoftext|>"];

const PARAMETERS_135M: u64 = 134_515_008;
const PARAMETERS_360M: u64 = 361_821_120;
const PARAMETERS_1_7B: u64 = 1_711_376_384;

/// SmolLM, first series.
const fn smollm(
    id: &'static str,
    label: &'static str,
    hub: &'static str,
    url: &'static str,
    parameters: u64,
) -> ModelEntry {
    ModelEntry {
        id,
        label,
        licence: "Apache-2.0",
        architecture: Architecture::Llama,
        hub,
        files: CHECKPOINT,
        url,
        source: None,
        template: TemplateKind::SmolLm,
        end_tokens: CHATML_END,
        sampling: SamplingDefaults::SMOLLM2,
        parameters,
        context_length: 2048,
    }
}

/// SmolLM2: the first series' shapes, another template and four times the context.
const fn smollm2(
    id: &'static str,
    label: &'static str,
    hub: &'static str,
    url: &'static str,
    parameters: u64,
) -> ModelEntry {
    ModelEntry {
        template: TemplateKind::SmolLm2,
        context_length: 8192,
        ..smollm(id, label, hub, url, parameters)
    }
}

static MODELS: [ModelEntry; 7] = [
    ModelEntry {
        source: Some(PinnedFile {
            path: "smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }),
        ..smollm2(
            "smollm2-135m-instruct",
            "SmolLM2 135M Instruct",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "models/smollm2-135m-instruct/",
            PARAMETERS_135M,
        )
    },
    smollm2(
        "smollm2-360m-instruct",
        "SmolLM2 360M Instruct",
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "models/smollm2-360m-instruct/",
        PARAMETERS_360M,
    ),
    smollm2(
        "smollm2-1.7b-instruct",
        "SmolLM2 1.7B Instruct",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "models/smollm2-1.7b-instruct/",
        PARAMETERS_1_7B,
    ),
    smollm(
        "smollm-135m-instruct",
        "SmolLM 135M Instruct",
        "HuggingFaceTB/SmolLM-135M-Instruct",
        "models/smollm-135m-instruct/",
        PARAMETERS_135M,
    ),
    smollm(
        "smollm-360m-instruct",
        "SmolLM 360M Instruct",
        "HuggingFaceTB/SmolLM-360M-Instruct",
        "models/smollm-360m-instruct/",
        PARAMETERS_360M,
    ),
    smollm(
        "smollm-1.7b-instruct",
        "SmolLM 1.7B Instruct",
        "HuggingFaceTB/SmolLM-1.7B-Instruct",
        "models/smollm-1.7b-instruct/",
        PARAMETERS_1_7B,
    ),
    ModelEntry {
        id: "smollm3-3b",
        label: "SmolLM3 3B",
        licence: "Apache-2.0",
        architecture: Architecture::SmolLm3,
        hub: "HuggingFaceTB/SmolLM3-3B",
        files: CHECKPOINT_SMOLLM3,
        url: "models/smollm3-3b/",
        source: None,
        template: TemplateKind::SmolLm3,
        end_tokens: &["<|im_end|>", "<|end_of_text|>"],
        sampling: SamplingDefaults::SMOLLM3,
        parameters: 3_075_098_624,
        context_length: 65_536,
    },
];

/// Every known model, the default first.
pub fn models() -> &'static [ModelEntry] {
    &MODELS
}

/// The model with this id, or with this hub repository's name; case does not matter.
///
/// # Errors
/// `invalid_argument` naming the id and the known ones.
pub fn find(id: &str) -> Result<&'static ModelEntry> {
    MODELS
        .iter()
        .find(|model| model.id.eq_ignore_ascii_case(id) || model.hub.eq_ignore_ascii_case(id))
        .ok_or_else(|| {
            let known: Vec<_> = MODELS.iter().map(|model| model.id).collect();
            Error::invalid_argument(format!(
                "model {id:?}: no such id (known: {})",
                known.join(", ")
            ))
        })
}

/// Which known model a loaded file is: by the name in it, as GGUF's `general.name`
/// "Smollm2 135M 8k Lc100K Mix1 Ep2", or else by its shape. The shape must fit in either case.
pub fn recognise(name: Option<&str>, config: &ModelConfig) -> Option<&'static ModelEntry> {
    let mut fitting = MODELS.iter().filter(|model| {
        model.architecture == config.architecture && model.parameters == config.parameters()
    });
    if let Some(series) = name.and_then(series) {
        return fitting.find(|model| self::series(model.id) == Some(series));
    }
    fitting.find(|model| model.context_length == config.max_position_embeddings)
}

/// "smollm", "smollm2", "smollm3": the first word of a name that begins like this.
fn series(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let start = name.find("smollm")?;
    let rest = &name[start + "smollm".len()..];
    Some(match rest.bytes().next() {
        Some(b'2') => "smollm2",
        Some(b'3') => "smollm3",
        _ => "smollm",
    })
}

/// Backends by model id: what serves several models at once asks here for the one that answers.
///
/// `B` is what answers, as `ModelBackend`.
#[derive(Debug)]
pub struct ModelRegistry<B> {
    backends: BTreeMap<String, B>,
}

impl<B> Default for ModelRegistry<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> ModelRegistry<B> {
    /// A registry without backends.
    pub fn new() -> Self {
        Self {
            backends: BTreeMap::new(),
        }
    }

    /// Registers the backend for an id, known to [`models`] or the host's own. Gives back the one
    /// that had the id before.
    pub fn register(&mut self, id: impl Into<String>, backend: B) -> Option<B> {
        self.backends.insert(id.into(), backend)
    }

    /// The backend for an id.
    ///
    /// # Errors
    /// `engine_lost` for a known model that is not registered, `invalid_argument` for an unknown id.
    pub fn backend(&mut self, id: &str) -> Result<&mut B> {
        if !self.backends.contains_key(id) {
            let known = find(id)?.id;
            return Err(Error::new(
                ErrorKind::EngineLost,
                format!("model {known:?} is not loaded"),
            ));
        }
        self.backends
            .get_mut(id)
            .ok_or_else(|| Error::invalid_argument(format!("model {id:?}: no such id")))
    }

    /// Takes the backend for an id away, to free it.
    pub fn remove(&mut self, id: &str) -> Option<B> {
        self.backends.remove(id)
    }

    /// The ids with a backend, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_by_id_and_by_hub_name() {
        for model in models() {
            let found = find(model.id).unwrap();
            assert_eq!(found.hub, model.hub);
            assert_eq!(find(model.hub).unwrap().id, model.id);
            assert_eq!(model.url, format!("models/{}/", model.id));
        }
        let error = find("gpt-4").unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(error.to_string().contains("gpt-4"), "{error}");
    }

    #[test]
    fn a_registry_tells_unloaded_from_unknown() {
        let mut registry = ModelRegistry::new();
        assert_eq!(registry.register("smollm2-135m-instruct", 1), None);
        assert_eq!(registry.register("mine", 2), None);
        assert_eq!(*registry.backend("mine").unwrap(), 2);
        assert_eq!(*registry.backend("smollm2-135m-instruct").unwrap(), 1);
        let unloaded = registry.backend("smollm3-3b").unwrap_err();
        assert_eq!(unloaded.code(), "engine_lost");
        let unknown = registry.backend("other").unwrap_err();
        assert_eq!(unknown.code(), "invalid_argument");
        assert_eq!(registry.remove("mine"), Some(2));
        assert_eq!(
            registry.backend("mine").unwrap_err().code(),
            "invalid_argument"
        );
    }

    /// The shapes of `facts.md`'s table: hidden, ffn, layers, heads, kv heads, head size, vocabulary.
    #[test]
    fn parameter_counts_follow_from_the_published_shapes() {
        let shapes = [
            ("135m", [576, 1536, 30, 9, 3, 64, 49_152]),
            ("360m", [960, 2560, 32, 15, 5, 64, 49_152]),
            ("1.7b", [2048, 8192, 24, 32, 32, 64, 49_152]),
            ("3b", [2048, 11_008, 36, 16, 4, 128, 128_256]),
        ];
        for model in models() {
            let (_, shape) = shapes
                .iter()
                .find(|(size, _)| model.id.contains(&format!("-{size}")))
                .unwrap();
            let [hidden, ffn, layers, heads, kv_heads, head_dim, vocab] = *shape;
            let config = format!(
                r#"{{"model_type": "{}", "hidden_size": {hidden}, "intermediate_size": {ffn},
                "num_hidden_layers": {layers}, "num_attention_heads": {heads},
                "num_key_value_heads": {kv_heads}, "head_dim": {head_dim}, "vocab_size": {vocab},
                "max_position_embeddings": {}, "tie_word_embeddings": true}}"#,
                model.architecture.name(),
                model.context_length
            );
            let config = ModelConfig::from_json(&config).unwrap();
            assert_eq!(config.parameters(), model.parameters, "{}", model.id);
            assert_eq!(recognise(None, &config).unwrap().id, model.id);
            assert_eq!(recognise(Some(model.label), &config).unwrap().id, model.id);
            assert!(
                recognise(
                    Some("SmolLM9"),
                    &ModelConfig {
                        vocab_size: 64,
                        ..config
                    }
                )
                .is_none()
            );
        }
    }
}
