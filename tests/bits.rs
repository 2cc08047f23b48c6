//! The same bits everywhere: logits of a tiny model, down to the last bit, against sums written down here.
//! `cargo test` runs this file natively and `scripts/test-wasm` in a browser, for the simd128 and the
//! relaxed build, so all of them agree with each other. A change of the arithmetic changes the sums: then
//! take the new ones from the failure, once native and wasm agree on them.

use smollm_web::TokenId;
use smollm_web::kernels;
use smollm_web::loader::{LoadOptions, Loader};
use smollm_web::model::{Logits, Model, Precision};

// The same tests in a browser.
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);

const LLAMA: &[u8] = include_bytes!("fixtures/models/llama-tied.gguf");
const SMOLLM3: &[u8] = include_bytes!("fixtures/models/smollm3.gguf");

fn load(gguf: &[u8], precision: Precision) -> Model {
    let mut loader = Loader::gguf(LoadOptions {
        precision,
        ..LoadOptions::default()
    });
    for chunk in gguf.chunks(65_521) {
        loader.feed(chunk).unwrap();
    }
    loader.finish().unwrap().model
}

/// Logits of all positions, the prompt given in pieces of `piece` tokens.
fn logits(model: &Model, piece: usize) -> Vec<u32> {
    let ids: Vec<TokenId> = (0..45).map(|i| TokenId((i * 37 + 11) % 512)).collect();
    let mut cache = model.new_cache(64).unwrap();
    ids.chunks(piece)
        .flat_map(|ids| model.forward(ids, &mut cache, Logits::All).unwrap())
        .map(f32::to_bits)
        .collect()
}

/// FNV-1a with 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>) over little-endian words.
fn sum(words: &[u32]) -> u64 {
    words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
}

#[track_caller]
fn check(gguf: &[u8], precision: Precision, expected: u64) {
    let model = load(gguf, precision);
    let whole = logits(&model, 45);
    for piece in [1, 7, 32] {
        assert!(logits(&model, piece) == whole, "in pieces of {piece}");
    }
    let found = sum(&whole);
    let kernel = kernels::name();
    assert_eq!(found, expected, "on {kernel}: {found:#018x}");
}

#[test]
fn llama_in_floats() {
    check(LLAMA, Precision::Source, 0xc3d0_3fce_8100_7c56);
}

#[test]
fn llama_in_int8() {
    check(LLAMA, Precision::Int8, 0x0ecd_c805_365b_676d);
}

#[test]
fn smollm3_in_int8() {
    check(SMOLLM3, Precision::Int8, 0x89c8_ca63_032a_3fc2);
}
