//! What loading a model takes, as told beforehand, against what it then takes.
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::path::Path;

use models::{load, load_pack, project, read};
use smollm_web::TokenId;
use smollm_web::error::Result;
use smollm_web::loader::{LoadOptions, LoadedModel};
use smollm_web::model::{Logits, Precision};
use smollm_web::survey::{GgufSurvey, Survey};
use smollm_web::weights::pack::{MANIFEST, Manifest};

const MODELS: [&str; 7] = [
    "llama-tied",
    "llama-tied.gguf",
    "llama-tied-bf16",
    "llama-untied",
    "llama-untied.gguf",
    "smollm3",
    "smollm3.gguf",
];

fn survey(path: &Path, options: LoadOptions) -> Survey {
    if path.is_dir() {
        let config = String::from_utf8(read(path.join("config.json"))).unwrap();
        return Survey::checkpoint(&config, options).unwrap();
    }
    let bytes = read(path);
    let mut beginning = GgufSurvey::new(options);
    let mut chunks = bytes.chunks(1000);
    loop {
        if let Some(survey) = beginning.feed(chunks.next().unwrap()).unwrap() {
            return survey;
        }
    }
}

/// As the survey says, to the byte, for several contexts; and the stand-in runs.
fn compare(name: &str, survey: &Survey, loaded: &LoadedModel) {
    let model = &loaded.model;
    assert_eq!(survey.quantization(), model.quantization(), "{name}");
    assert_eq!(survey.config(), model.config(), "{name}");
    let asked = survey.footprint(None).unwrap();
    assert_eq!(asked.context_length, loaded.context_length, "{name}");
    for positions in [1, 63, 64] {
        let footprint = survey.footprint(Some(positions)).unwrap();
        let cache = model.new_cache(positions).unwrap();
        assert_eq!(
            footprint.weight_bytes,
            model.weight_bytes() as u64,
            "{name}"
        );
        assert_eq!(footprint.cache_bytes, cache.memory_bytes() as u64, "{name}");
        assert!(footprint.peak_bytes > footprint.weight_bytes + footprint.cache_bytes);
        assert!(footprint.peak_bytes <= survey.footprint(Some(64)).unwrap().peak_bytes);
    }
    let (half, share) = survey.stand_in(asked.weight_bytes / 2).unwrap();
    assert!((0.2..0.8).contains(&share), "{name}: {share}");
    let found = half.weight_bytes() as f64 / asked.weight_bytes as f64;
    assert!((share - found).abs() < 1e-9, "{name}: {share}, {found}");
    let (whole, share) = survey.stand_in(u64::MAX).unwrap();
    assert_eq!((share, whole.weight_bytes()), (1.0, model.weight_bytes()));
    for stand_in in [half, whole] {
        let mut cache = stand_in.new_cache(4).unwrap();
        let ids = [TokenId(0), TokenId(1)];
        let logits = stand_in.forward(&ids, &mut cache, Logits::Last).unwrap();
        assert_eq!(logits, vec![0.0; stand_in.config().vocab_size], "{name}");
    }
}

#[test]
fn weights_and_cache_are_told_to_the_byte_before_they_are_there() {
    for name in MODELS {
        for precision in [Precision::Source, Precision::Int8] {
            let path = project("tests/fixtures/models").join(name);
            let options = LoadOptions {
                precision,
                ..LoadOptions::default()
            };
            let survey = survey(&path, options.clone());
            compare(name, &survey, &load(&path, options));
        }
    }
}

#[test]
fn of_a_pack_by_its_manifest() -> Result<()> {
    let folder = project("tests/fixtures/packs/llama-tied");
    let manifest = String::from_utf8(read(folder.join(MANIFEST))).unwrap();
    let manifest = Manifest::parse(&manifest)?;
    let survey = Survey::pack(&manifest, LoadOptions::default())?;
    compare("pack", &survey, &load_pack(&folder, 1000));
    Ok(())
}

#[test]
fn a_context_that_the_model_has_not_is_refused_as_by_the_loader() {
    let path = project("tests/fixtures/models/llama-tied.gguf");
    let survey = survey(&path, LoadOptions::default());
    let longest = survey.config().max_position_embeddings;
    assert!(survey.footprint(Some(longest)).is_ok());
    for wrong in [0, longest + 1] {
        let error = survey.footprint(Some(wrong)).unwrap_err();
        assert_eq!(error.code(), "invalid_argument");
        assert!(error.to_string().contains("context_length"), "{error}");
    }
}

#[test]
fn what_is_no_gguf_file_is_refused() {
    let mut beginning = GgufSurvey::new(LoadOptions::default());
    let error = beginning.feed(b"<!doctype html>").unwrap_err();
    assert_eq!(error.code(), "not_a_model");
}
