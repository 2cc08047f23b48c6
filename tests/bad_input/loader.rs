//! The whole loader, on the committed fixtures.

use crate::files::GgufFile;
use crate::gguf::changed;
use crate::{assert_no_absurd_allocation, expect};
use smollm_web::error::Result;
use smollm_web::loader::{CheckpointTexts, LoadOptions, Loader};

fn fixture(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/fixtures/models/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn load_gguf(bytes: &[u8]) -> Result<()> {
    let mut loader = Loader::gguf(LoadOptions::default());
    loader.begin_file("model.gguf")?;
    for chunk in bytes.chunks(1 << 16) {
        loader.feed(chunk)?;
    }
    loader.finish().map(drop)
}

/// Where the tensors' data begin.
fn header_len(gguf: &[u8]) -> usize {
    let content = candle_core::quantized::gguf_file::Content::read(&mut std::io::Cursor::new(gguf));
    content.unwrap().tensor_data_offset as usize
}

/// xorshift64* (Vigna 2016), so that the damage is the same in every run.
struct Damage(u64);

impl Damage {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % below
    }
}

#[test]
fn damaged_bytes_give_an_error_or_a_model_but_never_a_panic() {
    let mut damage = Damage(42);
    let file = fixture("llama-tied.gguf");
    // Counts, lengths, types, vocabulary: nine of ten blows hit the header.
    let header = header_len(&file);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..600 {
        let mut bytes = file.clone();
        let range = if round % 10 == 0 { bytes.len() } else { header };
        for _ in 0..=damage.next(3) {
            let at = damage.next(range);
            bytes[at] = match damage.next(3) {
                0 => 0xff,
                1 => 0,
                _ => bytes[at] ^ (1 << damage.next(8)),
            };
        }
        match load_gguf(&bytes) {
            Ok(()) => taken += 1,
            Err(e) => {
                refused += 1;
                assert!(e.to_string().starts_with("model.gguf: "), "{e}");
            }
        }
    }
    assert!(
        refused > 100 && taken > 10,
        "{refused} refused, {taken} taken"
    );

    let texts = ["config.json", "tokenizer.json"]
        .map(|name| String::from_utf8(fixture(&format!("llama-tied/{name}"))).unwrap());
    let weights = fixture("llama-tied/model.safetensors");
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for round in 0..300 {
        let mut bytes = weights.clone();
        let range = if round % 10 == 0 { bytes.len() } else { header };
        for _ in 0..=damage.next(3) {
            let at = damage.next(range);
            bytes[at] ^= 1 << damage.next(8);
        }
        let texts = CheckpointTexts {
            config: &texts[0],
            tokenizer: &texts[1],
            ..CheckpointTexts::default()
        };
        let mut loader = Loader::safetensors(&texts, LoadOptions::default()).unwrap();
        if loader.feed(&bytes).is_ok() {
            let _ = loader.finish();
        }
    }
    assert_no_absurd_allocation();
}

#[test]
fn the_loader_names_the_file_and_what_is_wrong_with_it() {
    expect(
        "HTML",
        load_gguf(b"<!DOCTYPE html>"),
        "not_a_model",
        &["model.gguf: expected GGUF"],
    );
    expect(
        "empty",
        load_gguf(b""),
        "not_a_model",
        &["model.gguf: the file is empty"],
    );
    let file = fixture("llama-tied.gguf");
    expect(
        "cut",
        load_gguf(&file[..file.len() - 1000]),
        "not_a_model",
        &["model.gguf: the file is truncated: 1000 of"],
    );
    // A model without vocabulary is no use here, though its tensors are fine.
    expect(
        "no vocabulary",
        load_gguf(&GgufFile::tiny().bytes()),
        "not_a_model",
        &["tokenizer.ggml.model"],
    );
    let sentencepiece = changed(|f| {
        f.set("tokenizer.ggml.model", "llama");
    });
    expect(
        "spm",
        load_gguf(&sentencepiece),
        "unsupported_architecture",
        &["\"llama\""],
    );

    let mut loader = Loader::gguf(LoadOptions::default());
    loader.begin_file("a-00001-of-00002.gguf").unwrap();
    let split = loader.begin_file("a-00002-of-00002.gguf");
    expect(
        "split",
        split,
        "invalid_argument",
        &["a-00002-of-00002.gguf"],
    );

    for (context, needle) in [
        (0, "0 is too short"),
        (513, "513 is more than the model's 512"),
    ] {
        let options = LoadOptions {
            context_length: Some(context),
            ..LoadOptions::default()
        };
        let mut loader = Loader::gguf(options);
        expect(
            "context",
            loader.feed(&file),
            "invalid_argument",
            &["context_length", needle],
        );
    }
}

#[test]
fn a_checkpoints_small_files_are_checked_before_its_weights() {
    let text = |name: &str| String::from_utf8(fixture(&format!("llama-tied/{name}"))).unwrap();
    let (config, tokenizer) = (text("config.json"), text("tokenizer.json"));
    let good = CheckpointTexts {
        config: &config,
        tokenizer: &tokenizer,
        ..CheckpointTexts::default()
    };
    let load = |texts: &CheckpointTexts| Loader::safetensors(texts, LoadOptions::default());
    load(&good).unwrap();
    let smaller = config.replace("\"vocab_size\": 512", "\"vocab_size\": 480");
    assert_ne!(smaller, config);
    let cases = [
        (
            "vocabulary",
            CheckpointTexts {
                config: &smaller,
                ..good
            },
            "512 tokens, the embedding only 480",
        ),
        (
            "tokenizer",
            CheckpointTexts {
                tokenizer: "<html>",
                ..good
            },
            "tokenizer.json",
        ),
        (
            "template",
            CheckpointTexts {
                chat_template: Some("{% if %}"),
                ..good
            },
            "template",
        ),
        (
            "generation config",
            CheckpointTexts {
                generation_config: Some("{\"eos_token_id\": 512}"),
                ..good
            },
            "eos_token_id 512",
        ),
        (
            "generation config",
            CheckpointTexts {
                generation_config: Some("{\"temperature\": -1}"),
                ..good
            },
            "generation_config.json: temperature: -1",
        ),
        (
            "tokenizer config",
            CheckpointTexts {
                tokenizer_config: Some("{"),
                ..good
            },
            "tokenizer_config.json",
        ),
        (
            "tokenizer config",
            CheckpointTexts {
                tokenizer_config: Some("{\"chat_template\": 3}"),
                ..good
            },
            "tokenizer_config.json: chat_template",
        ),
    ];
    for (what, texts, needle) in cases {
        expect(what, load(&texts), "not_a_model", &[needle]);
    }
    let none = CheckpointTexts::from_files(|name| (name != "tokenizer.json").then_some("{}"));
    expect("files", none, "not_a_model", &["tokenizer.json"]);
}
