//! Safetensors files and their index.

use crate::files::{
    GgufFile, Recorder, Tensor, floats, safetensors, safetensors_of, tiny_config, tiny_tensors,
};
use crate::{assert_no_absurd_allocation, expect};
use serde_json::json;
use smollm_web::config::ModelConfig;
use smollm_web::error::{Error, Result};
use smollm_web::weights::SafetensorsReader;
use smollm_web::weights::safetensors::shard_names;

fn read_checkpoint(config: &str, file: &[u8], chunk: usize) -> Result<Recorder> {
    let mut reader = SafetensorsReader::new(ModelConfig::from_json(config)?);
    let mut recorder = Recorder::default();
    reader.begin_file("model.safetensors")?;
    for piece in file.chunks(chunk) {
        reader.feed(piece, &mut recorder)?;
    }
    reader.finish()?;
    Ok(recorder)
}

#[track_caller]
fn expect_safetensors(what: &str, bytes: &[u8], code: &str, needles: &[&str]) {
    let config = tiny_config(json!({}));
    let whole = read_checkpoint(&config, bytes, usize::MAX);
    let message = whole.as_ref().err().map(Error::to_string);
    assert!(
        message
            .as_ref()
            .is_none_or(|m| m.starts_with("model.safetensors: ")),
        "{message:?}"
    );
    expect(what, whole, code, needles);
    for chunk in [1, 7] {
        let cut = read_checkpoint(&config, bytes, chunk);
        assert_eq!(
            cut.err().map(|e| e.to_string()),
            message,
            "{what}, in chunks of {chunk}"
        );
    }
}

#[test]
fn the_unchanged_file_is_good() {
    for chunk in [usize::MAX, 1] {
        let file = safetensors_of(&tiny_tensors());
        let read = read_checkpoint(&tiny_config(json!({})), &file, chunk);
        assert_eq!(read.unwrap().tensors.len(), 11);
    }
}

#[test]
fn what_is_no_safetensors_file_is_named() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["empty"]),
        (
            "HTML",
            b"<!DOCTYPE html>".to_vec(),
            &["'<!DOCTYP'", "HTML page"],
        ),
        (
            "LFS",
            b"version https://git-lfs".to_vec(),
            &["Git LFS pointer"],
        ),
        ("GGUF", GgufFile::tiny().bytes(), &["GGUF"]),
        (
            "absurd length",
            (1u64 << 60).to_le_bytes().to_vec(),
            &["1152921504606846976"],
        ),
        (
            "above the limit",
            100_000_001u64.to_le_bytes().to_vec(),
            &["100000001"],
        ),
        ("no header", 0u64.to_le_bytes().to_vec(), &["length of 0"]),
        ("no object", safetensors("[1, 2]", b""), &["start with '{'"]),
        (
            "no JSON",
            safetensors("{\"a\": ", b""),
            &["safetensors header"],
        ),
        (
            "no UTF-8",
            {
                let mut bytes = safetensors("{\"abc\": 1}", b"");
                bytes[11] = 0xff;
                bytes
            },
            &["safetensors header"],
        ),
        (
            "deep",
            safetensors(&"{\"a\":".repeat(100_000), b""),
            &["safetensors header"],
        ),
        (
            "length alone",
            64u64.to_le_bytes().to_vec(),
            &["truncated", "64 bytes are missing"],
        ),
        (
            "half a length",
            vec![1, 2, 3],
            &["truncated", "5 bytes are missing"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_safetensors(what, bytes, "not_a_model", needles);
    }
    assert_no_absurd_allocation();
}

#[test]
fn safetensors_that_do_not_fit_the_config_name_the_tensor() {
    let change = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut tensors = tiny_tensors();
        change(&mut tensors);
        safetensors_of(&tensors)
    };
    let q = 2;
    assert!(tiny_tensors()[q].0.ends_with("q_proj.weight"));
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "shape",
            change(&|t| {
                t[q].2 = &[16, 64];
            }),
            &["self_attn.q_proj.weight: expected 32x32, found 16x64"],
        ),
        (
            "missing",
            change(&|t| drop(t.remove(q))),
            &["model.layers.0.self_attn.q_proj.weight is missing"],
        ),
        (
            "bias",
            change(&|t| {
                t.push((
                    "model.layers.0.self_attn.q_proj.bias",
                    "F32",
                    &[32],
                    floats(1, 32),
                ))
            }),
            &["self_attn.q_proj.bias", "no such tensor"],
        ),
        (
            "fewer bytes than the shape",
            change(&|t| t[q].3.truncate(4092)),
            &["invalid shape"],
        ),
        (
            "gap",
            safetensors(
                r#"{"model.norm.weight": {"dtype": "F32", "shape": [32], "data_offsets": [4, 132]}}"#,
                &[0; 132],
            ),
            &["model.norm.weight", "offset"],
        ),
        (
            "overflow",
            safetensors(
                r#"{"model.norm.weight": {"dtype": "F32", "shape": [4294967296, 4294967296, 4], "data_offsets": [0, 4]}}"#,
                &[0; 4],
            ),
            &["overflow"],
        ),
    ];
    for (what, bytes, needles) in &cases {
        expect_safetensors(what, bytes, "not_a_model", needles);
    }
    let fp8 = change(&|t| {
        t[q].1 = "F8_E4M3";
        t[q].3.truncate(1024);
    });
    expect_safetensors(
        "fp8",
        &fp8,
        "unsupported_quantization",
        &["self_attn.q_proj.weight", "F8_E4M3"],
    );

    let good = safetensors_of(&tiny_tensors());
    let mut longer = good.clone();
    longer.extend([0; 9]);
    expect_safetensors(
        "longer",
        &longer,
        "not_a_model",
        &["bytes follow the last tensor"],
    );
    let header = good.len() - tiny_tensors().iter().map(|t| t.3.len()).sum::<usize>();
    for cut in [
        1,
        7,
        8,
        9,
        header - 1,
        header,
        header + 1,
        header + 4096,
        good.len() - 1,
    ] {
        expect_safetensors(
            &format!("cut at {cut}"),
            &good[..cut],
            "not_a_model",
            &["missing"],
        );
    }
    assert_no_absurd_allocation();
}

#[test]
fn an_index_cannot_name_files_outside_its_folder() {
    for (index, needle) in [
        ("<html>", "JSON"),
        ("{}", "weight_map"),
        (r#"{"weight_map": {}}"#, "weight_map"),
        (
            r#"{"weight_map": {"a": "../../etc/x.safetensors"}}"#,
            "../../etc",
        ),
        (
            r#"{"weight_map": {"a": "https://else.where/x.safetensors"}}"#,
            "else.where",
        ),
        (r#"{"weight_map": {"a": 3}}"#, "a: 3"),
    ] {
        expect(
            index,
            shard_names(index),
            "not_a_model",
            &["index.json", needle],
        );
    }
}
