//! References: what transformers, tokenizers and Jinja say (`tests/golden/README.md`).

use serde::Deserialize;
use serde_json::Value;
use smollm_web::TokenId;
use smollm_web::kernels;
use smollm_web::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use smollm_web::model::{Logits, Model};
use smollm_web::tokenizer::{ChatMessage, ChatTemplate, RenderOptions};
use wasm_bindgen_test::wasm_bindgen_test;

use crate::support::{bytes, golden, json, loaded, tensors};

const REAL: &str = "/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

#[wasm_bindgen_test]
fn the_build_runs_its_own_kernels() {
    let expected = if cfg!(feature = "relaxed") {
        "relaxed-simd128"
    } else {
        "simd128"
    };
    assert_eq!(kernels::name(), expected);
    assert_eq!(smollm_web::wasm::kernel_name(), expected);
}

#[derive(Deserialize)]
struct Tiny {
    prompts: std::collections::BTreeMap<String, TinyPrompt>,
}

#[derive(Deserialize)]
struct TinyPrompt {
    ids: Vec<TokenId>,
    greedy: Vec<TokenId>,
}

/// Every logit within 1e-4 of transformers, relative to the largest, and the same greedy tokens.
async fn check_tiny(name: &str, model: &Model) {
    let tiny: Tiny = json(&format!("/tests/golden/tiny/{name}.json")).await;
    let reference = tensors(&format!("/tests/golden/tiny/{name}.safetensors")).await;
    for (prompt, TinyPrompt { ids, greedy }) in tiny.prompts {
        let expected = &reference[&format!("{prompt}.logits")];
        let mut cache = model.new_cache(ids.len() + greedy.len()).unwrap();
        let found = model.forward(&ids, &mut cache, Logits::All).unwrap();
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let off = (found - expected).abs();
            assert!(
                off <= 1e-4 * largest,
                "{name} {prompt}, logit {i}: expected {expected}, found {found}"
            );
        }
        let vocab = model.config().vocab_size;
        let mut row = found[found.len() - vocab..].to_vec();
        let mut answer = Vec::new();
        while answer.len() < greedy.len() {
            let next = kernels::argmax(&row).expect("a finite logit");
            let next = TokenId(u32::try_from(next).unwrap());
            answer.push(next);
            row = model.forward(&[next], &mut cache, Logits::Last).unwrap();
        }
        assert_eq!(answer, greedy, "{name} {prompt}");
    }
}

async fn gguf(path: &str) -> LoadedModel {
    let mut loader = Loader::gguf(LoadOptions::default());
    loader.feed(&bytes(path).await).unwrap();
    loader.finish().unwrap()
}

async fn checkpoint(directory: &str, weights: &[&str]) -> LoadedModel {
    let read =
        async |name: &str| String::from_utf8(bytes(&format!("{directory}/{name}")).await).unwrap();
    let config = read("config.json").await;
    let tokenizer = read("tokenizer.json").await;
    let texts = CheckpointTexts {
        config: &config,
        tokenizer: &tokenizer,
        ..CheckpointTexts::default()
    };
    let mut loader = Loader::safetensors(&texts, LoadOptions::default()).unwrap();
    for name in weights {
        loader.begin_file(name).unwrap();
        for chunk in bytes(&format!("{directory}/{name}")).await.chunks(10_007) {
            loader.feed(chunk).unwrap();
        }
    }
    loader.finish().unwrap()
}

#[wasm_bindgen_test]
async fn tiny_ggufs_as_transformers() {
    for name in ["llama-tied", "llama-untied", "smollm3"] {
        let loaded = gguf(&format!("/tests/fixtures/models/{name}.gguf")).await;
        check_tiny(name, &loaded.model).await;
    }
}

#[wasm_bindgen_test]
async fn tiny_checkpoints_as_transformers() {
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for (name, golden, weights) in [
        ("llama-tied", "llama-tied", &["model.safetensors"][..]),
        ("llama-tied-bf16", "llama-tied", &["model.safetensors"]),
        ("llama-untied", "llama-untied", &["model.safetensors"]),
        ("smollm3", "smollm3", &shards),
    ] {
        let loaded = checkpoint(&format!("/tests/fixtures/models/{name}"), weights).await;
        check_tiny(golden, &loaded.model).await;
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids_plain: Vec<u32>,
    ids_special: Vec<u32>,
}

#[derive(Deserialize)]
struct Conversation {
    template: String,
    messages: Value,
    #[serde(flatten)]
    options: RenderOptions,
    text: String,
    ids: Option<Vec<u32>>,
}

/// The real model's tokenizer and template, through the class: every reference, exactly.
#[wasm_bindgen_test]
async fn the_real_models_tokenizer_and_template_as_the_references() {
    let model = loaded(REAL).await;
    let texts: Vec<Text> = golden("tokenizer.jsonl").await;
    assert!(texts.len() >= 250);
    for case in texts {
        let text = &case.text;
        let plain = model.tokenize(text, false).unwrap();
        assert_eq!(plain, case.ids_plain, "{text:?}, plain");
        let special = model.tokenize(text, true).unwrap();
        assert_eq!(special, case.ids_special, "{text:?}, special");
    }

    let mut checked = 0;
    for case in golden::<Conversation>("templates.jsonl").await {
        // Roles and contents that no request can have are for the template alone, below.
        let plain = |message: &Value| message["content"].is_string();
        let sayable = case.messages.as_array().unwrap().iter().all(plain)
            && ChatMessage::list_from_json(&case.messages).is_ok();
        if case.template != "smollm2-instruct" || !sayable {
            continue;
        }
        let (messages, options) = (
            case.messages.to_string(),
            serde_json::to_string(&case.options).unwrap(),
        );
        let ids = case.ids.expect("smollm2 cases have ids");
        let found = model.encode_messages(&messages, &options).unwrap();
        assert_eq!(found, ids, "{messages}");
        assert_eq!(
            model.count_messages(&messages, &options).unwrap(),
            ids.len()
        );
        checked += 1;
    }
    assert!(checked >= 40, "{checked} conversations");
}

#[wasm_bindgen_test]
async fn templates_as_jinja() {
    let cases: Vec<Conversation> = golden("templates.jsonl").await;
    assert!(cases.len() >= 120);
    for case in cases {
        let template = match case.template.as_str() {
            "smollm-135m-instruct" => ChatTemplate::smollm(),
            "smollm2-instruct" => ChatTemplate::smollm2(),
            "smollm3-3b" => ChatTemplate::smollm3(),
            other => panic!("no template {other:?}"),
        };
        let text = template.render_json(&case.messages, &case.options).unwrap();
        assert_eq!(text, case.text, "{}: {}", case.template, case.messages);
    }
}
