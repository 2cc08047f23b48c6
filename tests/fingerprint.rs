//! The real model's bits, natively: every logit of a text of 300 tokens and of a greedy answer of 200 is the same on every
//! back end, number of threads and size of pieces. Browsers are held against the command line in `tests/web/e2e`.
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::fs;

use models::{load, project, real_gguf};
use smollm_web::fingerprint::{Digests, Fingerprint};
use smollm_web::kernels::{self, Backend};
use smollm_web::loader::{LoadOptions, LoadedModel};
use smollm_web::tokenizer::ParseSpecial;

const POSITIONS: usize = 300;
const ANSWER: usize = 200;

fn fingerprint(loaded: &LoadedModel, piece: usize) -> Digests {
    let text = fs::read_to_string(project("benches/prompt.txt")).unwrap();
    let mut ids = loaded.tokenizer.encode(&text, ParseSpecial::No).unwrap();
    ids.truncate(POSITIONS);
    assert_eq!(ids.len(), POSITIONS);
    let mut run = Fingerprint::new(&loaded.model, ids, ANSWER, piece).unwrap();
    loop {
        if let Some(found) = run.step(&loaded.model).unwrap() {
            assert_eq!(found.ids.len(), ANSWER);
            return found;
        }
    }
}

/// One test, since back end and threads are the whole process's.
#[test]
fn every_back_end_thread_count_and_piece_gives_the_same_bits() {
    let loaded = load(&real_gguf(), LoadOptions::default());
    let best = kernels::current();
    kernels::set_threads(1);
    let expected = fingerprint(&loaded, POSITIONS);
    assert_ne!(expected.text, expected.answer);
    println!(
        "{}: text {}, answer {}",
        best.name(),
        expected.text,
        expected.answer
    );

    for piece in [1, 7, 32] {
        assert_eq!(
            fingerprint(&loaded, piece),
            expected,
            "in pieces of {piece}"
        );
    }
    for threads in [2, 4] {
        kernels::set_threads(threads);
        assert_eq!(fingerprint(&loaded, 32), expected, "{threads} threads");
    }
    for &backend in kernels::available() {
        if backend != best {
            // The scalar definition is slow: on as many threads as there are processors.
            kernels::set_threads(std::thread::available_parallelism().map_or(1, usize::from));
            assert!(kernels::select(backend));
            let piece = if backend == Backend::Scalar {
                POSITIONS
            } else {
                32
            };
            assert_eq!(fingerprint(&loaded, piece), expected, "{}", backend.name());
        }
    }
    kernels::select(best);
}
