//! GGUF files.

use crate::files::{F16, F32, GgufFile, Recorder, VOCAB, Value, floats, read_gguf};
use crate::{assert_no_absurd_allocation, expect};
use smollm_web::error::Error;

/// Both ways of cutting the bytes must give this error, in the same words.
#[track_caller]
fn expect_gguf(what: &str, bytes: &[u8], code: &str, needles: &[&str]) {
    let whole = read_gguf(bytes, usize::MAX);
    let message = whole.as_ref().err().map(Error::to_string);
    expect(what, whole, code, needles);
    for chunk in [1, 7] {
        let cut = read_gguf(bytes, chunk).err().map(|e| e.to_string());
        assert_eq!(cut, message, "{what}, in chunks of {chunk}");
    }
}

pub fn changed(change: impl FnOnce(&mut GgufFile)) -> Vec<u8> {
    let mut file = GgufFile::tiny();
    change(&mut file);
    file.bytes()
}

#[test]
fn the_unchanged_file_is_good() {
    for chunk in [usize::MAX, 1] {
        let read = read_gguf(&GgufFile::tiny().bytes(), chunk).unwrap();
        assert_eq!(read.tensors.len(), 11);
    }
}

#[test]
fn what_is_no_gguf_file_is_named() {
    let cases: [(&str, &[u8], &[&str]); 10] = [
        ("empty", b"", &["empty"]),
        (
            "HTML",
            b"<!DOCTYPE html><html>404</html>",
            &["expected GGUF, found '<!DO'", "HTML page"],
        ),
        (
            "short HTML",
            b"<h",
            &["expected GGUF, found '<h'", "HTML page"],
        ),
        (
            "LFS",
            b"version https://git-lfs.github.com/spec/v1",
            &["'vers'", "Git LFS pointer"],
        ),
        ("JSON", b"{\"error\": \"not found\"}", &["JSON"]),
        ("zip", b"PK\x03\x04\0\0\0\0", &["'PK\\x03\\x04'", "archive"]),
        (
            "big-endian",
            b"GGUF\0\0\0\x03\0\0\0\0\0\0\0\0",
            &["version 50331648", "big-endian"],
        ),
        ("version 1", b"GGUF\x01\0\0\0\0\0\0\0", &["version 1 "]),
        ("version 9", b"GGUF\x09\0\0\0\0\0\0\0", &["version 9 "]),
        ("magic alone", b"GGUF", &["truncated", "ends after 4 bytes"]),
    ];
    for (what, bytes, needles) in cases {
        expect_gguf(what, bytes, "not_a_model", needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let huge = 1u64 << 60;
    let array = |element: u32, count: u64| {
        let mut bytes = element.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        Value::Raw(9, bytes)
    };
    let deep = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            bytes.extend(9u32.to_le_bytes());
            bytes.extend(1u64.to_le_bytes());
        }
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        Value::Raw(9, bytes)
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "tensor count",
            changed(|f| f.tensor_count = Some(huge)),
            &["tensor count 1152921504606846976"],
        ),
        (
            "key count",
            changed(|f| f.key_count = Some(huge)),
            &["metadata key count 1152921504606846976"],
        ),
        (
            "string length",
            changed(|f| {
                f.set("general.name", Value::Raw(8, huge.to_le_bytes().to_vec()));
            }),
            &["general.name", "string length 1152921504606846976"],
        ),
        (
            "string length in an array",
            changed(|f| {
                let Value::Raw(kind, mut bytes) = array(8, 2) else {
                    unreachable!()
                };
                bytes.extend(u64::MAX.to_le_bytes());
                f.set("tokenizer.ggml.tokens", Value::Raw(kind, bytes));
            }),
            &["tokenizer.ggml.tokens", "18446744073709551615"],
        ),
        (
            "array length",
            changed(|f| {
                f.set("tokenizer.ggml.tokens", array(8, huge));
            }),
            &[
                "tokenizer.ggml.tokens",
                "array elements 1152921504606846976",
            ],
        ),
        (
            "array of bytes that would take 32 times its size",
            changed(|f| {
                f.set("some.bytes", array(0, 50 << 20));
            }),
            &["some.bytes", "array elements"],
        ),
        (
            "nesting",
            changed(|f| {
                f.set("some.nest", deep(100_000));
            }),
            &["some.nest", "nested deeper"],
        ),
        (
            "key length",
            {
                let mut bytes = GgufFile::tiny().bytes();
                bytes[24..32].copy_from_slice(&huge.to_le_bytes());
                bytes
            },
            &["metadata key length 1152921504606846976"],
        ),
        (
            "name length",
            changed(|f| f.tensor("output_norm.weight").name = "x".repeat(65)),
            &["tensor name length 65"],
        ),
        (
            "dimensions",
            changed(|f| f.tensor("blk.0.attn_q.weight").dims = vec![1; 5]),
            &["blk.0.attn_q.weight", "5 dimensions"],
        ),
        (
            "no dimensions",
            changed(|f| f.tensor("blk.0.attn_q.weight").dims = vec![]),
            &["blk.0.attn_q.weight", "0 dimensions"],
        ),
        (
            "elements that overflow",
            changed(|f| f.tensor("blk.0.attn_q.weight").dims = vec![1 << 33, 1 << 33]),
            &["blk.0.attn_q.weight", "8589934592"],
        ),
        (
            "an axis of none",
            changed(|f| f.tensor("blk.0.attn_q.weight").dims = vec![32, 0]),
            &["blk.0.attn_q.weight", "impossible size"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_gguf(what, bytes, "not_a_model", needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn broken_metadata_names_its_key() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "unknown value type",
            changed(|f| {
                f.set("general.name", Value::Raw(13, vec![0; 8]));
            }),
            &["general.name", "value type 13"],
        ),
        (
            "alignment 0, by which Candle would divide",
            changed(|f| {
                f.set("general.alignment", 0);
            }),
            &["general.alignment", "0 is not a power of two"],
        ),
        (
            "alignment 48",
            changed(|f| {
                f.set("general.alignment", 48);
            }),
            &["general.alignment", "48"],
        ),
        (
            "alignment as text",
            changed(|f| {
                f.set("general.alignment", "32");
            }),
            &["general.alignment", "u32"],
        ),
        (
            "key twice",
            changed(|f| f.keys.push(("llama.block_count".into(), 2.into()))),
            &["llama.block_count", "twice"],
        ),
        (
            "no architecture",
            changed(|f| {
                f.unset("general.architecture");
            }),
            &["no general.architecture"],
        ),
        (
            "missing size",
            changed(|f| {
                f.unset("llama.block_count");
            }),
            &["no llama.block_count"],
        ),
        (
            "text for a number",
            changed(|f| {
                f.set("llama.block_count", "one");
            }),
            &["llama.block_count", "expected a count", "one"],
        ),
        (
            "negative",
            changed(|f| {
                f.set(
                    "llama.block_count",
                    Value::Raw(5, (-1i32).to_le_bytes().to_vec()),
                );
            }),
            &["llama.block_count", "-1"],
        ),
        (
            "absurd layers",
            changed(|f| {
                f.set("llama.block_count", u32::MAX);
            }),
            &["llama.block_count", "4294967295"],
        ),
        (
            "no heads",
            changed(|f| {
                f.set("llama.attention.head_count", 0);
            }),
            &["llama.attention.head_count", "0 heads"],
        ),
        (
            "heads that kv heads do not divide",
            changed(|f| {
                f.set("llama.attention.head_count", 4);
                f.set("llama.attention.head_count_kv", 3);
            }),
            &["llama.attention.head_count_kv", "3 does not divide"],
        ),
        (
            "epsilon that is no number",
            changed(|f| {
                f.set("llama.attention.layer_norm_rms_epsilon", f32::NAN);
            }),
            &["llama.attention.layer_norm_rms_epsilon", "NaN"],
        ),
        (
            "end token outside the vocabulary",
            changed(|f| {
                f.set("tokenizer.ggml.eos_token_id", VOCAB as u32);
            }),
            &["tokenizer.ggml.eos_token_id", "outside the vocabulary"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_gguf(what, bytes, "not_a_model", needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn unsupported_kinds_of_models_are_named() {
    let key = |key: &'static str, value: Value| {
        changed(move |f| {
            f.set(key, value);
        })
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "architecture",
            key("general.architecture", "qwen2".into()),
            &["\"qwen2\"", "llama, smollm3"],
        ),
        (
            "rope scaling",
            key("llama.rope.scaling.type", "yarn".into()),
            &["llama.rope.scaling.type", "yarn"],
        ),
        (
            "rope factor",
            key("llama.rope.scaling.factor", 4.0.into()),
            &["llama.rope.scaling.factor", "4"],
        ),
        (
            "experts",
            key("llama.expert_count", 8.into()),
            &["llama.expert_count", "8"],
        ),
        (
            "partial rotary",
            key("llama.rope.dimension_count", 8.into()),
            &["llama.rope.dimension_count", "8"],
        ),
        (
            "value heads",
            key("llama.attention.value_length", 32.into()),
            &["llama.attention.value_length"],
        ),
        (
            "width",
            key("llama.feed_forward_length", 72.into()),
            &["llama.feed_forward_length", "72"],
        ),
        (
            "rope factors in a tensor",
            changed(|f| {
                f.push("rope_freqs.weight", &[8], F32, floats(3, 8));
            }),
            &["rope_freqs.weight", "scaled rope"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_gguf(what, bytes, "unsupported_architecture", needles);
    }
    for (id, name) in [
        (4, ""),
        (16, "IQ2_XXS"),
        (39, "MXFP4"),
        (9, "Q8_1"),
        (1 << 31, ""),
    ] {
        let bytes = changed(|f| f.tensor("blk.0.ffn_up.weight").kind = id);
        let id = id.to_string();
        let needles = ["blk.0.ffn_up.weight", id.as_str(), name];
        expect_gguf("type", &bytes, "unsupported_quantization", &needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn a_tensor_table_that_does_not_fit_the_config_names_the_tensor() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "shape",
            changed(|f| f.tensor("blk.0.attn_q.weight").dims = vec![32, 16]),
            &["tensor blk.0.attn_q.weight: expected 32x32, found 16x32"],
        ),
        (
            "transposed",
            changed(|f| f.tensor("blk.0.ffn_down.weight").dims.reverse()),
            &["tensor blk.0.ffn_down.weight: expected 32x64, found 64x32"],
        ),
        (
            "vocabulary",
            changed(|f| {
                f.set("llama.vocab_size", 16);
            }),
            &["tensor token_embd.weight: expected 16x32, found 8x32"],
        ),
        (
            "missing",
            changed(|f| f.tensors.retain(|t| t.name != "blk.0.ffn_gate.weight")),
            &["tensor blk.0.ffn_gate.weight is missing"],
        ),
        (
            "a missing layer",
            changed(|f| {
                f.set("llama.block_count", 2);
            }),
            &["blk.1.attn_norm.weight and 8 more are missing"],
        ),
        (
            "twice",
            changed(|f| {
                let again = f.tensor("output_norm.weight").clone();
                f.tensors.push(again);
            }),
            &["output_norm.weight", "twice"],
        ),
        (
            "a bias",
            changed(|f| {
                f.push("blk.0.attn_q.bias", &[32], F32, floats(1, 32));
            }),
            &["blk.0.attn_q.bias", "no such tensor"],
        ),
        (
            "a layer too many",
            changed(|f| {
                f.push("blk.1.attn_norm.weight", &[32], F32, floats(1, 32));
            }),
            &["blk.1.attn_norm.weight", "no such tensor"],
        ),
        (
            "a name that parses as a number",
            changed(|f| {
                f.push("blk.+0.attn_norm.weight", &[32], F32, floats(1, 32));
            }),
            &["blk.+0.attn_norm.weight", "no such tensor"],
        ),
        (
            "overlap",
            changed(|f| f.tensor("blk.0.attn_norm.weight").offset = Some(512)),
            &["blk.0.attn_norm.weight", "512 overlaps", "expected 1024"],
        ),
        (
            "gap",
            changed(|f| f.tensor("blk.0.attn_norm.weight").offset = Some(1 << 40)),
            &["blk.0.attn_norm.weight", "gap", "expected 1024"],
        ),
        (
            "out of order",
            changed(|f| {
                f.tensor("token_embd.weight").offset = Some(128);
                f.tensor("blk.0.attn_norm.weight").offset = Some(0);
            }),
            &["token_embd.weight", "offset 128"],
        ),
        (
            "rows of half a block",
            changed(|f| {
                f.tensor("blk.0.attn_norm.weight").kind = 12; // Q4_K: blocks of 256
            }),
            &["blk.0.attn_norm.weight", "Q4K blocks of 256"],
        ),
        (
            "half the bytes",
            changed(|f| f.tensor("token_embd.weight").kind = F16),
            &["blk.0.attn_norm.weight", "gap"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_gguf(what, bytes, "not_a_model", needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let file = GgufFile::tiny();
    let bytes = file.bytes();
    let mut cuts = file.boundaries();
    cuts.extend((0..bytes.len()).step_by(97));
    cuts.extend(bytes.len() - 4..bytes.len());
    cuts.retain(|&cut| cut < bytes.len());
    for cut in cuts {
        for chunk in [usize::MAX, 1] {
            let result = read_gguf(&bytes[..cut], chunk).map(drop);
            let needle = if cut == 0 { "empty" } else { "missing" };
            expect(&format!("cut at {cut}"), result, "not_a_model", &[needle]);
        }
    }
    let result = read_gguf(&bytes[..bytes.len() - 5], usize::MAX);
    let last = format!(
        "5 of {} bytes are missing, from tensor output_norm.weight",
        bytes.len()
    );
    expect("5 bytes short", result, "not_a_model", &[last.as_str()]);
    assert_no_absurd_allocation();
}

#[test]
fn a_reader_that_failed_takes_nothing_more() {
    let mut reader = smollm_web::weights::GgufReader::new();
    let mut sink = Recorder::default();
    reader.feed(b"<html>", &mut sink).unwrap_err();
    let good = GgufFile::tiny().bytes();
    expect(
        "more",
        reader.feed(&good, &mut sink),
        "not_a_model",
        &["earlier error"],
    );
    assert!(sink.tensors.is_empty() && sink.header.is_none());
    expect(
        "the end",
        reader.finish(),
        "not_a_model",
        &["earlier error"],
    );
}
