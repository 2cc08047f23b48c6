//! Seeded tiny models against float32 transformers: every hidden state, every logit, greedy tokens,
//! from safetensors and from GGUF (`tests/golden/README.md`).
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::collections::BTreeMap;
use std::sync::Arc;

use models::{load, project, read, tensor};
use safetensors::SafeTensors;
use serde::Deserialize;
use smollm_web::TokenId;
use smollm_web::loader::{LoadOptions, LoadedModel};
use smollm_web::model::{Logits, Model};
use smollm_web::sampler::{SamplingParams, argmax};
use smollm_web::session::{GenerateOptions, Session, Step};

#[derive(Deserialize)]
struct Golden {
    prompts: BTreeMap<String, Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<TokenId>,
    greedy: Vec<TokenId>,
}

/// Every form of every model, and the golden that it is held to.
const MODELS: [(&str, &str); 7] = [
    ("llama-tied", "llama-tied"),
    ("llama-tied.gguf", "llama-tied"),
    ("llama-tied-bf16", "llama-tied"),
    ("llama-untied", "llama-untied"),
    ("llama-untied.gguf", "llama-untied"),
    ("smollm3", "smollm3"),
    ("smollm3.gguf", "smollm3"),
];

fn each(mut check: impl FnMut(&str, LoadedModel, &Golden, &SafeTensors)) {
    for (name, golden) in MODELS {
        let path = project("tests/fixtures/models").join(name);
        let loaded = load(&path, LoadOptions::default());
        let golden = project("tests/golden/tiny").join(golden);
        let bytes = read(golden.with_extension("safetensors"));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let golden: Golden = serde_json::from_slice(&read(golden.with_extension("json"))).unwrap();
        assert_eq!(golden.prompts.len(), 2);
        check(name, loaded, &golden, &tensors);
    }
}

/// The largest difference, relative to the expected value or, where that is small, to a tenth of the
/// largest of its row: a sum that cancels has no relative precision of its own.
fn relative_error(ours: &[f32], expected: &[f32], width: usize) -> f32 {
    assert_eq!(ours.len(), expected.len());
    ours.chunks_exact(width)
        .zip(expected.chunks_exact(width))
        .map(|(ours, expected)| {
            let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
            let errors = ours
                .iter()
                .zip(expected)
                .map(|(a, b)| (a - b).abs() / b.abs().max(largest / 10.0));
            errors.fold(0f32, f32::max)
        })
        .fold(0f32, f32::max)
}

#[test]
fn every_layer_and_every_logit_equal_those_of_transformers() {
    each(|name, loaded, golden, tensors| {
        let model = &loaded.model;
        let hidden = model.config().hidden_size;
        for (prompt, Prompt { ids, .. }) in &golden.prompts {
            let mut cache = model.new_cache(ids.len()).unwrap();
            let mut seen = 0;
            let logits = model
                .forward_observed(ids, &mut cache, Logits::All, &mut |state, x| {
                    let theirs = match state.strip_prefix("layer.") {
                        Some(index) => format!("{prompt}.layers.{index}"),
                        None if state == "embedding" => format!("{prompt}.embed"),
                        None => format!("{prompt}.{state}"),
                    };
                    let ours: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
                    let error = relative_error(&ours, &tensor(tensors, &theirs), hidden);
                    assert!(error <= 1e-4, "{name}, {theirs}: relative error {error}");
                    seen += 1;
                })
                .unwrap();
            assert_eq!(seen, model.config().num_hidden_layers + 2);
            let expected = tensor(tensors, &format!("{prompt}.logits"));
            let error = relative_error(&logits, &expected, model.config().vocab_size);
            println!("{name}, {prompt}: logits' relative error {error:e}");
            assert!(
                error <= 1e-4,
                "{name}, {prompt}: logits' relative error {error}"
            );
        }
    });
}

#[test]
fn greedy_tokens_equal_those_of_transformers_however_the_prompt_is_cut() {
    each(|name, loaded, golden, _| {
        let LoadedModel {
            model, tokenizer, ..
        } = loaded;
        let mut session =
            Session::new(Arc::new(model), Arc::new(tokenizer), Vec::new(), 128).unwrap();
        for Prompt { ids, greedy } in golden.prompts.values() {
            // From scratch, then again with the cache that the first round left.
            for round in 0..2 {
                let options = GenerateOptions {
                    sampling: SamplingParams::greedy(),
                    max_tokens: Some(greedy.len()),
                    ..GenerateOptions::default()
                };
                let prepared = session.start(ids.clone(), options).unwrap();
                assert_eq!(round == 1, prepared.cached_tokens == ids.len() - 1);
                assert_eq!(generated(&mut session), *greedy, "{name}, round {round}");
            }
        }
    });
}

fn generated(session: &mut Session<Model>) -> Vec<TokenId> {
    let mut ids = Vec::new();
    loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, .. } => ids.push(id),
            Step::Done { .. } => return ids,
        }
    }
}

/// The bits may not depend on how many tokens are read at once, nor on what was read and forgotten.
#[test]
fn logits_are_the_same_bits_in_any_pieces_and_after_any_truncation() {
    each(|name, loaded, golden, _| {
        let model = &loaded.model;
        let ids = &golden.prompts["long"].ids;
        let vocab = model.config().vocab_size;
        let mut cache = model.new_cache(ids.len() + 8).unwrap();
        let whole = model.forward(ids, &mut cache, Logits::All).unwrap();
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for piece in [1, 2, 3, 5, 8, 13, 32] {
            // Something else first, so that stale keys and values lie behind the truncation.
            cache.truncate(7).unwrap();
            model
                .forward(&ids[20..28], &mut cache, Logits::None)
                .unwrap();
            cache.truncate(5).unwrap();
            let mut row = 5;
            for piece in ids[5..].chunks(piece) {
                let rows = model.forward(piece, &mut cache, Logits::All).unwrap();
                for logits in rows.chunks_exact(vocab) {
                    let expected = &whole[row * vocab..][..vocab];
                    assert_eq!(bits(logits), bits(expected), "{name}, position {row}");
                    assert_eq!(argmax(logits), argmax(expected));
                    row += 1;
                }
            }
            assert_eq!(row, ids.len());
        }
    });
}
