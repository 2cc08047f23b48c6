//! `tokenizer.json`, then a text with it: what stands behind a zero byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smollm_web::tokenizer::{ParseSpecial, ShowSpecial, Tokenizer};
use smollm_web_fuzz::memory::limited;
use smollm_web_fuzz::seeds;

fuzz_target!(
    init: seeds::write("tokenizer").expect("the corpus is written"),
    |data: &[u8]| {
        let end = data
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(data.len());
        let (json, text) = data.split_at(end);
        limited(data.len(), || {
            let Ok(tokenizer) = Tokenizer::from_json(json) else {
                return;
            };
            let text = String::from_utf8_lossy(text);
            let plain = tokenizer
                .encode(&text, ParseSpecial::No)
                .expect("any text is tokens");
            assert!(
                !plain.iter().any(|&id| tokenizer.is_special(id)),
                "{plain:?}"
            );
            let special = tokenizer
                .encode(&text, ParseSpecial::Yes)
                .expect("any text is tokens");
            for ids in [plain, special] {
                assert!(
                    ids.iter()
                        .all(|id| (id.0 as usize) < tokenizer.vocab_size())
                );
                tokenizer.decode_with(&ids, ShowSpecial::Yes);
            }
        });
    }
);
