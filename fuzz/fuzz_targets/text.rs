//! Any text through both pipelines and back.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smollm_web::tokenizer::{ParseSpecial, ShowSpecial, TextStream, Tokenizer};
use smollm_web_fuzz::seeds;

static TOKENIZERS: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
    [
        &include_bytes!("../../tests/fixtures/models/llama-tied/tokenizer.json")[..],
        &include_bytes!("../../tests/fixtures/tokenizers/llama3-tiny.json")[..],
    ]
    .map(|json| Tokenizer::from_json(json).expect("the fixture is good"))
});

fuzz_target!(
    init: seeds::write("text").expect("the corpus is written"),
    |text: &str| {
        for tokenizer in &*TOKENIZERS {
            let known = |byte: u8| {
                let single = |id| tokenizer.token_bytes(smollm_web::TokenId(id)) == Some(&[byte]);
                (0..tokenizer.vocab_size() as u32).any(single)
            };
            let plain = tokenizer
                .encode(text, ParseSpecial::No)
                .expect("any text is tokens");
            assert!(
                !plain.iter().any(|&id| tokenizer.is_special(id)),
                "{plain:?}"
            );
            // Bytes without a token vanish; a text of the others comes back.
            let decoded = tokenizer.decode(&plain);
            if decoded != text {
                assert!(!text.bytes().all(known), "{decoded:?}");
            }
            let special = tokenizer
                .encode(text, ParseSpecial::Yes)
                .expect("any text is tokens");
            for ids in [plain, special] {
                let mut stream = TextStream::with(ShowSpecial::Yes);
                let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
                streamed.push_str(&stream.finish());
                assert_eq!(streamed, tokenizer.decode_with(&ids, ShowSpecial::Yes));
            }
        }
    }
);
