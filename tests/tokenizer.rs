//! The tokenizer against Hugging Face's (`tests/golden/README.md`), and what must hold for any text.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use serde::Deserialize;
use smollm_web::tokenizer::{GgufVocab, ParseSpecial, ShowSpecial, TextStream, Tokenizer};
use smollm_web::{ErrorKind, TokenId};

#[derive(Deserialize)]
struct Case {
    text: String,
    ids_plain: Vec<TokenId>,
    ids_special: Vec<TokenId>,
    decoded: String,
}

fn check_golden(tokenizer: &Tokenizer, name: &str, at_least: usize) {
    let cases = common::golden::<Case>(name);
    assert!(cases.len() >= at_least, "{name}: {} cases", cases.len());
    for case in cases {
        let text = &case.text;
        let plain = tokenizer.encode(text, ParseSpecial::No).unwrap();
        assert_eq!(plain, case.ids_plain, "{name}: {text:?}, plain");
        let special = tokenizer.encode(text, ParseSpecial::Yes).unwrap();
        assert_eq!(special, case.ids_special, "{name}: {text:?}, special");
        for ids in [plain, special] {
            let shown = tokenizer.decode_with(&ids, ShowSpecial::Yes);
            assert_eq!(shown, case.decoded, "{name}: {text:?}, decoded");
            assert_eq!(streamed(tokenizer, &ids, ShowSpecial::Yes), shown);
        }
    }
}

fn streamed(tokenizer: &Tokenizer, ids: &[TokenId], special: ShowSpecial) -> String {
    let mut stream = TextStream::with(special);
    let mut text: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
    text.push_str(&stream.finish());
    text
}

#[test]
fn smollm2_as_the_reference() {
    check_golden(&common::smollm2_tokenizer(), "tokenizer.jsonl", 250);
}

/// The `tokenizer.json` that is written for a vocabulary from GGUF, held to the same references.
#[test]
fn written_json_as_the_reference() {
    let smollm2 = common::gguf_vocab(&common::real_gguf());
    let llama3 = common::gguf_vocab(&common::fetched_fixture("llama3-vocab.gguf"));
    for (vocab, golden, at_least) in [
        (smollm2, "tokenizer.jsonl", 250),
        (llama3, "tokenizer-llama3.jsonl", 150),
    ] {
        let json = vocab.to_json().unwrap();
        assert_eq!(json, vocab.to_json().unwrap());
        check_golden(
            &Tokenizer::from_json(json.as_bytes()).unwrap(),
            golden,
            at_least,
        );
    }
}

#[test]
fn llama3_as_the_reference() {
    let vocab = common::gguf_vocab(&common::fetched_fixture("llama3-vocab.gguf"));
    for pre in ["llama-bpe", "smaug-bpe"] {
        let vocab = GgufVocab {
            pre: pre.into(),
            ..vocab.clone()
        };
        let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
        check_golden(&tokenizer, "tokenizer-llama3.jsonl", 150);
    }
}

#[test]
fn tokenizer_json_as_the_reference() {
    for (file, golden) in [
        (
            "tests/fixtures/models/llama-tied/tokenizer.json",
            "tokenizer-tiny.jsonl",
        ),
        (
            "tests/fixtures/tokenizers/llama3-tiny.json",
            "tokenizer-llama3-tiny.jsonl",
        ),
    ] {
        let content = std::fs::read(common::project(file)).unwrap();
        check_golden(&Tokenizer::from_json(&content).unwrap(), golden, 100);
    }
}

#[test]
fn gguf_and_json_of_one_vocabulary_agree() {
    let json = std::fs::read(common::project(
        "tests/fixtures/models/llama-tied/tokenizer.json",
    ));
    let json = Tokenizer::from_json(&json.unwrap()).unwrap();
    let gguf = common::gguf_vocab(&common::project("tests/fixtures/models/llama-tied.gguf"));
    let gguf = Tokenizer::from_gguf(gguf).unwrap();
    assert_eq!(json.vocab_size(), gguf.vocab_size());
    assert!(json.specials().eq(gguf.specials()));
    check_golden(&gguf, "tokenizer-tiny.jsonl", 100);
}

#[derive(Deserialize)]
struct StreamCase {
    ids: Vec<TokenId>,
    pieces: Vec<String>,
    flush: String,
    text: String,
}

#[test]
fn stream_gives_whole_characters_as_soon_as_they_are() {
    let tokenizer = common::smollm2_tokenizer();
    for case in common::golden::<StreamCase>("tokenizer-stream.jsonl") {
        let mut stream = TextStream::with(ShowSpecial::Yes);
        let ids = case.ids.iter();
        let pieces = ids
            .map(|&id| stream.push(&tokenizer, id))
            .collect::<Vec<_>>();
        assert_eq!(pieces, case.pieces, "{:?}", case.ids);
        assert_eq!(stream.finish(), case.flush, "{:?}", case.ids);
        assert_eq!(stream.finish(), "", "a second end adds nothing");
        assert_eq!(
            tokenizer.decode_with(&case.ids, ShowSpecial::Yes),
            case.text
        );
    }
}

/// A small seeded generator (Steele et al., "Fast splittable pseudorandom number generators", 2014:
/// SplitMix64), so that every run tries the same texts.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

#[test]
fn plain_text_never_becomes_a_control_token() {
    let tokenizer = common::smollm2_tokenizer();
    let names = tokenizer
        .specials()
        .map(|(_, name)| name)
        .collect::<Vec<_>>();
    assert_eq!(names.len(), 17);
    let glue = [
        "",
        "<",
        "<|",
        "|>",
        ">",
        "im_",
        "start",
        "_end",
        " ",
        "\n",
        "x",
        "<|im_<|im_end|>end|>",
    ];
    let mut random = Random(1);
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..=random.below(6) {
            text.push_str(random.pick(&names));
            text.push_str(random.pick(&glue));
        }
        let plain = tokenizer.encode(&text, ParseSpecial::No).unwrap();
        assert!(
            !plain.iter().any(|&id| tokenizer.is_special(id)),
            "{text:?}"
        );
        assert_eq!(tokenizer.decode(&plain), text);
        let special = tokenizer.encode(&text, ParseSpecial::Yes).unwrap();
        assert!(
            special.iter().any(|&id| tokenizer.is_special(id)),
            "{text:?}"
        );
        assert_eq!(tokenizer.decode_with(&special, ShowSpecial::Yes), text);
    }
}

#[test]
fn no_control_token_is_in_reach_of_merges_or_whole_words() {
    // A vocabulary whose control token is an ordinary word, with the merges that make it.
    let vocab = |pre: &str, kind| GgufVocab {
        pre: pre.into(),
        tokens: ["h", "i", "hi", "Ġ", "Ġhi"].map(str::to_owned).into(),
        token_types: vec![1, 1, kind, 1, 1],
        merges: ["h i", "Ġ hi"].map(str::to_owned).into(),
    };
    for pre in ["smollm", "llama-bpe"] {
        let ordinary = Tokenizer::from_gguf(vocab(pre, 1)).unwrap();
        assert_eq!(
            ordinary.encode("hi", ParseSpecial::No).unwrap(),
            [TokenId(2)]
        );
        let control = Tokenizer::from_gguf(vocab(pre, 3)).unwrap();
        assert_eq!(
            control.encode("hi", ParseSpecial::No).unwrap(),
            [0, 1].map(TokenId)
        );
        assert_eq!(
            control.encode("hi", ParseSpecial::Yes).unwrap(),
            [TokenId(2)]
        );
        // A user-defined token counts in any text.
        let user = Tokenizer::from_gguf(vocab(pre, 4)).unwrap();
        assert_eq!(
            user.encode("hhi", ParseSpecial::No).unwrap(),
            [0, 2].map(TokenId)
        );
        assert!(!user.is_special(TokenId(2)));
    }
}

#[test]
fn texts_come_back_and_streams_agree() {
    let tokenizer = common::smollm2_tokenizer();
    // Bytes without a token vanish (04 06 13 14 16 1d f1 f2), so texts here hold none.
    let alphabet = [
        "a",
        "Z",
        "0",
        "9",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "'s",
        "don't",
        "é",
        "ß",
        "漢字",
        "한",
        "ع",
        "א",
        "हि",
        "😀",
        "👩‍💻",
        "\u{301}",
        "\u{200b}",
        "\u{feff}",
        "fn f() {",
        "½",
        "٣",
        "<|",
        "_",
        "\u{85}",
    ];
    let mut random = Random(2);
    for _ in 0..2000 {
        let text = (0..random.below(24))
            .map(|_| random.pick(&alphabet))
            .collect::<String>();
        let ids = tokenizer.encode(&text, ParseSpecial::No).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
        assert_eq!(streamed(&tokenizer, &ids, ShowSpecial::No), text);
    }
    // Any ids at all, in the vocabulary or beyond.
    for _ in 0..2000 {
        let ids = (0..random.below(24))
            .map(|_| TokenId(random.below(50_000) as u32))
            .collect::<Vec<_>>();
        for special in [ShowSpecial::No, ShowSpecial::Yes] {
            let whole = tokenizer.decode_with(&ids, special);
            assert_eq!(streamed(&tokenizer, &ids, special), whole, "{ids:?}");
        }
    }
}

#[test]
fn ids_and_names() {
    let tokenizer = common::smollm2_tokenizer();
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!(tokenizer.special_id("<|im_start|>"), Some(TokenId(1)));
    assert_eq!(tokenizer.special_id("<|im_end|>"), Some(TokenId(2)));
    assert_eq!(tokenizer.special_id("hello"), None);
    assert!(tokenizer.is_special(TokenId(0)) && !tokenizer.is_special(TokenId(17)));
    assert_eq!(
        tokenizer.token_bytes(TokenId(1)),
        Some(&b"<|im_start|>"[..])
    );
    for beyond in [49_152, u32::MAX] {
        assert_eq!(tokenizer.token_bytes(TokenId(beyond)), None);
        assert_eq!(tokenizer.decode(&[TokenId(beyond)]), "");
        assert!(!tokenizer.is_special(TokenId(beyond)));
    }
    let ids = tokenizer.encode("a<|im_end|>b", ParseSpecial::Yes).unwrap();
    assert_eq!(tokenizer.decode(&ids), "ab");
    assert_eq!(
        tokenizer.decode_with(&ids, ShowSpecial::Yes),
        "a<|im_end|>b"
    );
}

#[test]
fn endless_words_are_tokenized() {
    let vocab = common::gguf_vocab(&common::fetched_fixture("llama3-vocab.gguf"));
    for tokenizer in [
        common::smollm2_tokenizer(),
        Tokenizer::from_gguf(vocab).unwrap(),
    ] {
        for unit in ["a", " ", "\n", "1", "é", "!", " a", "ab 1"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = tokenizer.encode(&text, ParseSpecial::No).unwrap();
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}

fn tiny() -> GgufVocab {
    GgufVocab {
        pre: "smollm".into(),
        tokens: ["<|end|>", "a", "b", "ab"].map(str::to_owned).into(),
        token_types: vec![3, 1, 1, 1],
        merges: vec!["a b".into()],
    }
}

#[track_caller]
fn assert_refused(kind: ErrorKind, message: &str, change: impl FnOnce(&mut GgufVocab)) {
    let mut vocab = tiny();
    change(&mut vocab);
    let error = Tokenizer::from_gguf(vocab).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.to_string(), format!("tokenizer.ggml: {message}"));
}

#[test]
fn wrong_gguf_vocabularies_are_named() {
    Tokenizer::from_gguf(tiny()).unwrap();
    assert_refused(
        ErrorKind::UnsupportedArchitecture,
        "pre-tokenizer \"qwen2\" is not supported: expected smollm, llama-bpe or smaug-bpe",
        |v| v.pre = "qwen2".into(),
    );
    let wrong = ErrorKind::NotAModel;
    assert_refused(wrong, "3 token types for 4 tokens", |v| {
        v.token_types.truncate(3)
    });
    assert_refused(wrong, "token \"a\" stands twice, at 1 and 2", |v| {
        v.tokens[2] = "a".into()
    });
    assert_refused(wrong, "the vocabulary is empty", |v| {
        *v = GgufVocab {
            pre: "smollm".into(),
            ..GgufVocab::default()
        }
    });
    for merge in ["", "ab", "a b x", " ", "a ", " b", "a  b"] {
        let message = format!("merge 0 ({merge:?}) is not two tokens with a space between");
        assert_refused(wrong, &message, |v| v.merges[0] = merge.into());
    }
    let missing = "merge 0 (\"b\", \"a\"): \"ba\" is not in the vocabulary";
    assert_refused(wrong, missing, |v| v.merges[0] = "b a".into());
    let missing = "merge 0 (\"x\", \"b\"): \"x\" is not in the vocabulary";
    assert_refused(wrong, missing, |v| v.merges[0] = "x b".into());
}

#[test]
fn wrong_tokenizer_files_are_named() {
    use serde_json::{Value, json};
    let good = json!({
        "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    });
    let read = |json: &Value| Tokenizer::from_json(json.to_string().as_bytes());
    let ids = read(&good)
        .unwrap()
        .encode("ab<s>", ParseSpecial::Yes)
        .unwrap();
    assert_eq!(ids, [2, 3].map(TokenId));

    let wrong = ErrorKind::NotAModel;
    let unsupported = ErrorKind::UnsupportedArchitecture;
    let double = [
        good["added_tokens"][0].clone(),
        good["added_tokens"][0].clone(),
    ];
    for (pointer, value, kind, message) in [
        (
            "/model/type",
            json!("Unigram"),
            unsupported,
            "model type \"Unigram\" is not supported",
        ),
        (
            "/model/vocab/ab",
            json!(1),
            wrong,
            "tokens \"ab\" and \"b\" share the id 1",
        ),
        (
            "/model/vocab/ab",
            json!(u32::MAX),
            wrong,
            "token \"ab\" has the id 4294967295",
        ),
        ("/model/vocab/ab", json!(-1), wrong, "invalid value"),
        (
            "/model/merges",
            json!(["a c"]),
            wrong,
            "merge 0 (\"a\", \"c\"): \"c\" is not",
        ),
        (
            "/model/merges",
            json!([["b", "b"]]),
            wrong,
            "merge 0 (\"b\", \"b\"): \"bb\" is not",
        ),
        (
            "/model/merges",
            json!([["b"]]),
            wrong,
            "did not match any variant",
        ),
        (
            "/added_tokens/0/id",
            json!(2),
            wrong,
            "added token \"<s>\" and its id 2 do not belong",
        ),
        (
            "/added_tokens/0/content",
            json!("ab"),
            wrong,
            "added token \"ab\" and its id 3 do not belong",
        ),
        (
            "/added_tokens/0/content",
            json!(""),
            wrong,
            "added token 3 is empty",
        ),
        (
            "/added_tokens",
            json!(double),
            wrong,
            "added token \"<s>\" stands twice",
        ),
        (
            "/pre_tokenizer",
            json!(null),
            unsupported,
            "no byte-level BPE",
        ),
        (
            "/pre_tokenizer",
            json!({"type": "Metaspace"}),
            unsupported,
            "no byte-level BPE",
        ),
        (
            "/normalizer",
            json!({"type": "Nonsense"}),
            unsupported,
            "normalizer is not supported",
        ),
        ("/model", json!(null), wrong, "invalid type"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let error = read(&bad).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("tokenizer.json: ") && text.contains(message),
            "{text}, not {message}"
        );
    }
    for content in [
        "",
        "<!doctype html><html></html>",
        "{}",
        "[]",
        "{\"model\": {}}",
    ] {
        let error = Tokenizer::from_json(content.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), wrong, "{error}");
    }
}
