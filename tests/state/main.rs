//! Saved sessions: what is restored goes on as if nothing had been, and what does not fit is refused by name.
#![cfg(not(target_arch = "wasm32"))]

#[path = "../models/mod.rs"]
mod models;

mod refused;

use models::{load, project, real_gguf};
use sha2::{Digest, Sha256};
use smollm_web::loader::{LoadOptions, LoadedModel};
use smollm_web::model::Precision;
use smollm_web::sampler::SamplingParams;
use smollm_web::session::{
    FinishReason, GenerateOptions, STATE_VERSION, Session, StateReader, StateWriter, Step, Usage,
};
use smollm_web::tokenizer::ParseSpecial;
use smollm_web::{Error, ErrorKind, TokenId, kernels};
use std::sync::Arc;

const CONTEXT: usize = 200;

/// Keys and values are floats in the first, integers in the others; layers without positions in the last.
const MODELS: [&str; 4] = [
    "llama-tied",
    "llama-tied.gguf",
    "llama-untied.gguf",
    "smollm3.gguf",
];

/// A model of its own each time, as in another process.
fn session(name: &str) -> Session {
    session_with_context(name, CONTEXT)
}

fn session_with_context(name: &str, context: usize) -> Session {
    // The files hold floats, all of them: one form stays so here, the other becomes integers.
    let precision = if name.ends_with(".gguf") {
        Precision::Int8
    } else {
        Precision::Source
    };
    session_with(name, precision, context)
}

fn session_with(name: &str, precision: Precision, context: usize) -> Session {
    let options = LoadOptions {
        precision,
        ..LoadOptions::default()
    };
    let loaded = load(&project("tests/fixtures/models").join(name), options);
    let LoadedModel {
        model, tokenizer, ..
    } = loaded;
    // No end tokens: answers are as long as they are asked to be.
    Session::new(Arc::new(model), Arc::new(tokenizer), Vec::new(), context).unwrap()
}

/// Some text of the vocabulary, the same every time; texts of different seeds differ from the first token on.
fn ids(session: &Session, seed: u32, n: usize) -> Vec<TokenId> {
    let vocab = session.model().config().vocab_size as u32;
    (0..n as u32)
        .map(|i| TokenId((i.wrapping_mul(2_654_435_761) >> 7).wrapping_add(seed * 31 + i) % vocab))
        .collect()
}

/// Sampled tokens with every bit of their log-probabilities, and what was counted.
fn generate(
    session: &mut Session,
    prompt: &[TokenId],
    tokens: usize,
) -> (Vec<(TokenId, u32)>, Usage) {
    let options = GenerateOptions {
        sampling: SamplingParams {
            seed: 7,
            ..SamplingParams::default()
        },
        max_tokens: Some(tokens),
        logprobs: Some(0),
        ..GenerateOptions::default()
    };
    session.start(prompt.to_vec(), options).unwrap();
    let mut answer = Vec::new();
    loop {
        match session.step().unwrap() {
            Step::Prefill { .. } => {}
            Step::Token { id, logprob, .. } => answer.push((id, logprob.unwrap().to_bits())),
            Step::Done {
                usage,
                finish_reason,
                ..
            } => {
                assert_eq!(finish_reason, FinishReason::Length);
                return (answer, usage);
            }
        }
    }
}

fn save(session: &Session) -> Vec<u8> {
    let mut writer = StateWriter::new(session);
    assert_eq!(writer.tokens(), session.cached().len());
    let mut bytes = Vec::new();
    while let Some(part) = writer.next(session).unwrap() {
        bytes.extend(part);
    }
    assert_eq!(bytes.len() as u64, writer.bytes());
    bytes
}

fn restore(session: &mut Session, bytes: &[u8], chunk: usize) -> Result<usize, Error> {
    let mut reader = StateReader::new();
    for chunk in bytes.chunks(chunk) {
        reader.feed(session, chunk)?;
    }
    reader.finish(session)
}

#[track_caller]
fn refused(session: &mut Session, bytes: &[u8], kind: ErrorKind, message: &str) {
    let error = restore(session, bytes, 1000).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn a_restored_session_goes_on_with_the_same_bits() {
    for name in MODELS {
        // Within a block of 32 positions, at its end, and beyond it; within a vector of eight, too.
        for (tokens, chunk) in [
            (1, 1),
            (5, 3),
            (8, 64),
            (31, 100),
            (32, 1000),
            (33, 7),
            (90, 1 << 20),
        ] {
            let mut never_left = session(name);
            let prompt = ids(&never_left, 1, tokens);
            let (answer, _) = generate(&mut never_left, &prompt, 12);
            let saved = save(&never_left);

            let mut back = session(name);
            assert_eq!(restore(&mut back, &saved, chunk).unwrap(), tokens + 11);
            assert_eq!(back.cached(), never_left.cached());
            assert_eq!(
                save(&back),
                saved,
                "{name}: what is restored is what was saved"
            );

            // The next message: prompt, answer, more.
            let mut next = prompt.clone();
            next.extend(answer.iter().map(|(id, _)| *id));
            next.extend(ids(&back, 2, 6));
            let (expected, usage) = generate(&mut never_left, &next, 20);
            assert_eq!(
                generate(&mut back, &next, 20),
                (expected, usage),
                "{name}: {tokens} tokens"
            );
            assert_eq!(usage.cached_tokens, tokens + 11);
        }
    }
}

#[test]
fn a_session_that_was_cut_back_is_saved_as_it_is_now() {
    for name in MODELS {
        let mut cut = session(name);
        let long = ids(&cut, 1, 70);
        generate(&mut cut, &long, 4);
        for keep in [50, 33, 32, 9, 3] {
            // Only so much in common with what came before: the rest is forgotten.
            let mut prompt = long[..keep].to_vec();
            prompt.extend(ids(&cut, 3 + keep as u32, 5));
            generate(&mut cut, &prompt, 3);

            let mut fresh = session(name);
            generate(&mut fresh, &prompt, 3);
            let saved = save(&cut);
            assert_eq!(
                saved,
                save(&fresh),
                "{name}: nothing is left of what was forgotten"
            );

            // Restored over something else, and cut back again.
            let mut back = session(name);
            let other = ids(&back, 9, 40);
            generate(&mut back, &other, 5);
            restore(&mut back, &saved, 999).unwrap();
            let edited = [&prompt[..keep], &ids(&back, 5, 8)].concat();
            let (answer, usage) = generate(&mut back, &edited, 10);
            assert_eq!(usage.cached_tokens, keep, "{name}");
            assert_eq!(
                answer,
                generate(&mut session(name), &edited, 10).0,
                "{name}: cut to {keep}"
            );
        }
    }
}

#[test]
fn what_never_was_said_is_saved_too() {
    let mut empty = session("llama-tied.gguf");
    let saved = save(&empty);
    let prompt = ids(&empty, 1, 10);
    generate(&mut empty, &prompt, 2);
    assert_eq!(restore(&mut empty, &saved, 10).unwrap(), 0);
    assert_eq!(empty.cached(), []);
}

#[test]
fn saving_and_restoring_mind_what_else_goes_on() {
    let mut busy = session("llama-tied.gguf");
    let prompt = ids(&busy, 1, 100);
    generate(&mut busy, &prompt, 2);
    let saved = save(&busy);
    let mut writer = StateWriter::new(&busy);
    writer.next(&busy).unwrap();

    // More of the same conversation does no harm to what is being saved.
    let more = [&prompt[..], &ids(&busy, 5, 3)].concat();
    busy.start(more, GenerateOptions::default()).unwrap();
    assert_eq!(
        restore(&mut busy, &saved, 100).unwrap_err().kind(),
        ErrorKind::Busy
    );
    busy.step().unwrap();
    assert_eq!(
        writer.next(&busy).unwrap_err().kind(),
        ErrorKind::InvalidArgument,
        "one token less is held"
    );
    busy.abort();

    let mut used = session("llama-tied.gguf");
    let mut reader = StateReader::new();
    reader.feed(&mut used, &saved[..saved.len() - 100]).unwrap();
    let other = ids(&used, 8, 5);
    let expected = generate(&mut session("llama-tied.gguf"), &other, 3).0;
    assert_eq!(generate(&mut used, &other, 3).0, expected);
    let error = reader
        .feed(&mut used, &saved[saved.len() - 100..])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(used.cached().len(), 7, "the other conversation stays");
    assert_eq!(
        reader.feed(&mut used, b"x").unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        reader.finish(&mut used).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

/// A thousand tokens of the real weights: what they take on disk, and that they go on with the same bits.
#[test]
fn the_real_model_goes_on_too() {
    let real = || {
        let loaded = load(&real_gguf(), LoadOptions::default());
        Session::new(
            Arc::new(loaded.model),
            Arc::new(loaded.tokenizer),
            Vec::new(),
            2048,
        )
        .unwrap()
    };
    kernels::set_threads(std::thread::available_parallelism().map_or(1, usize::from));
    let text = std::fs::read_to_string(project("benches/prompt.txt")).unwrap();
    let mut never_left = real();
    let mut prompt = never_left
        .tokenizer()
        .encode(&text, ParseSpecial::No)
        .unwrap();
    prompt.truncate(1000);
    assert_eq!(prompt.len(), 1000);
    let (answer, _) = generate(&mut never_left, &prompt, 1);
    let saved = save(&never_left);
    // 30 layers of three heads: 64 keys of two bytes, 64 values, two scales. An id each; head and checksums.
    let token = 30 * 3 * (64 * 2 + 64 + 2 * 4) + 4;
    assert_eq!(saved.len(), 1000 * token + 48 + (2 + 32) * 8);

    let mut back = real();
    assert_eq!(restore(&mut back, &saved, 1 << 20).unwrap(), 1000);
    prompt.push(answer[0].0);
    let expected = generate(&mut never_left, &prompt, 8);
    assert_eq!(expected.1.cached_tokens, 1000);
    assert_eq!(generate(&mut back, &prompt, 8), expected);
}

/// Where this fails, the form, the cache or the arithmetic has changed: saved conversations would go on with other bits. Raise
/// `STATE_VERSION`, so that they are refused, and record the digests anew.
#[test]
fn this_version_saves_these_bits() {
    let recorded = [
        (
            "llama-tied",
            "52d86e1ef7a85852b43b18341b944345c96945df19fc6f8468dec6d9802e67e7",
        ),
        (
            "llama-tied.gguf",
            "378f1f5e85b36f5324f73e6eaf766dd20f23b2f316cc5b510f61ed547898a014",
        ),
        (
            "smollm3.gguf",
            "fccf70cc4d76e0f055e99cdeee6126ba1561ce7c9bb0f0816f626aac3978eacd",
        ),
    ];
    assert_eq!(STATE_VERSION, 1);
    for (name, expected) in recorded {
        let mut session = session(name);
        // The last token generated is not held yet: how tokens are chosen has no part in this.
        let prompt = ids(&session, 1, 90);
        generate(&mut session, &prompt, 1);
        let found: String = Sha256::digest(save(&session))
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}
