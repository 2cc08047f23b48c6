//! Good files, read right: any cutting of the bytes gives the same tensors, Candle and the safetensors
//! crate read the same from them, and a model's GGUF and safetensors files hold the same weights.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/files.rs"]
mod files;

use candle_core::Device;
use candle_core::quantized::{GgmlDType, gguf_file};
use files::{
    F32, GgufFile, Recorder, floats, read_gguf, safetensors_of, tiny_config, tiny_tensors,
};
use serde_json::{Value, json};
use smollm_web::config::{Architecture, ModelConfig};
use smollm_web::error::Result;
use smollm_web::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use smollm_web::model::Logits;
use smollm_web::token::TokenId;
use smollm_web::weights::safetensors::shard_names;
use smollm_web::weights::{RowOrder, SafetensorsReader, TensorInfo, TensorRole};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

const GGUF: [&str; 3] = ["llama-tied", "llama-untied", "smollm3"];
const CHECKPOINTS: [&str; 4] = ["llama-tied", "llama-untied", "smollm3", "llama-tied-bf16"];

fn fixture(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/fixtures/models/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap()
}

/// The weight files of a checkpoint, as (name, bytes).
fn shards(model: &str) -> Vec<(String, Vec<u8>)> {
    let index = format!(
        "{}/tests/fixtures/models/{model}/model.safetensors.index.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let names = match std::fs::read_to_string(index) {
        Ok(index) => shard_names(&index).unwrap(),
        Err(_) => vec!["model.safetensors".into()],
    };
    names
        .into_iter()
        .map(|name| {
            let bytes = fixture(&format!("{model}/{name}"));
            (name, bytes)
        })
        .collect()
}

fn read_checkpoint(model: &str, chunk: usize) -> Result<Recorder> {
    let config = ModelConfig::from_json(&text(&format!("{model}/config.json")))?;
    let mut reader = SafetensorsReader::new(config);
    let mut recorder = Recorder::default();
    for (name, bytes) in shards(model) {
        reader.begin_file(&name)?;
        for piece in bytes.chunks(chunk) {
            reader.feed(piece, &mut recorder)?;
        }
    }
    let progress = reader.progress();
    assert_eq!(progress.bytes_total, Some(progress.bytes_seen));
    assert_eq!(progress.tensors_done, progress.tensors_total);
    reader.finish()?;
    Ok(recorder)
}

#[test]
fn chunks_of_any_size_give_the_same_tensors() {
    for model in GGUF {
        let bytes = fixture(&format!("{model}.gguf"));
        let whole = read_gguf(&bytes, usize::MAX).unwrap();
        assert_eq!(
            whole.header.as_ref().unwrap().file_bytes,
            bytes.len() as u64
        );
        for chunk in [1, 3, 4096, 65_537] {
            let cut = read_gguf(&bytes, chunk).unwrap();
            assert!(
                cut.tensors == whole.tensors,
                "{model}.gguf in chunks of {chunk}"
            );
        }
    }
    for model in CHECKPOINTS {
        let whole = read_checkpoint(model, usize::MAX).unwrap();
        for chunk in [1, 3, 4096, 65_537] {
            let cut = read_checkpoint(model, chunk).unwrap();
            assert!(cut.tensors == whole.tensors, "{model} in chunks of {chunk}");
        }
    }
}

/// Chunks at odd addresses must not reach the sink unaligned; the recorder checks the addresses.
#[test]
fn tensors_are_aligned_wherever_the_chunk_lies() {
    let file = GgufFile::tiny().bytes();
    let expected = read_gguf(&file, usize::MAX).unwrap().tensors;
    for shift in 0..8 {
        let mut shifted = vec![0; shift];
        shifted.extend(&file);
        assert!(read_gguf(&shifted[shift..], usize::MAX).unwrap().tensors == expected);
    }
}

#[test]
fn tensors_come_in_file_order_each_role_once() {
    for model in GGUF {
        let bytes = fixture(&format!("{model}.gguf"));
        let read = read_gguf(&bytes, 4096).unwrap();
        let content = gguf_file::Content::read(&mut Cursor::new(&bytes)).unwrap();
        let offset = |info: &TensorInfo| content.tensor_infos[&info.name].offset;
        assert!(read.tensors.is_sorted_by_key(|(info, _)| offset(info)));
        let config = read.header.unwrap().config;
        let roles: BTreeSet<_> = read.tensors.iter().map(|(info, _)| info.role).collect();
        assert_eq!(roles.len(), read.tensors.len());
        assert_eq!(roles, TensorRole::all(&config).collect());
        assert_eq!(config.tie_word_embeddings, model != "llama-untied");
    }
}

/// Candle's own reader, which seeks in the whole file, is the reference.
#[test]
fn candle_reads_the_same_tensors_and_metadata_from_gguf() {
    for model in GGUF {
        let bytes = fixture(&format!("{model}.gguf"));
        let mut cursor = Cursor::new(&bytes);
        let content = gguf_file::Content::read(&mut cursor).unwrap();
        let read = read_gguf(&bytes, 1000).unwrap();
        assert_eq!(read.tensors.len(), content.tensor_infos.len());
        for (info, data) in &read.tensors {
            let tensor = content
                .tensor(&mut cursor, &info.name, &Device::Cpu)
                .unwrap();
            assert_eq!(tensor.shape().dims(), info.shape, "{}", info.name);
            assert_eq!(tensor.dtype(), info.dtype, "{}", info.name);
            assert!(tensor.data().unwrap()[..] == data[..], "{}", info.name);
        }

        let mut metadata = read.header.unwrap().metadata;
        let keys: BTreeSet<_> = metadata.keys().map(str::to_owned).collect();
        assert_eq!(keys, content.metadata.keys().cloned().collect());
        for (key, value) in &content.metadata {
            use gguf_file::Value::{Array, Bool, F32, String, U32};
            match value {
                U32(x) => assert_eq!(metadata.integer(key).unwrap(), Some(*x as usize)),
                F32(x) => assert_eq!(metadata.float(key).unwrap(), Some(*x)),
                Bool(x) => assert_eq!(metadata.boolean(key).unwrap(), Some(*x)),
                String(x) => assert_eq!(metadata.string(key).unwrap(), Some(x.as_str())),
                Array(values) if matches!(values.first(), Some(String(_))) => {
                    let expected: Vec<_> = values.iter().map(|v| v.to_string().unwrap()).collect();
                    let taken = metadata.take_strings(key).unwrap().unwrap();
                    assert_eq!(taken.iter().collect::<Vec<_>>(), expected);
                    assert_eq!(metadata.take_strings(key).unwrap(), None);
                }
                Array(values) => {
                    let expected: Vec<_> =
                        values.iter().map(|v| v.to_i32().unwrap() as u32).collect();
                    assert_eq!(metadata.integers(key).unwrap(), Some(expected));
                }
                other => panic!("{key}: {other:?}: extend this test"),
            }
        }
    }
}

#[test]
fn the_safetensors_crate_reads_the_same_tensors() {
    for model in CHECKPOINTS {
        let read = read_checkpoint(model, 1000).unwrap();
        let mut expected = BTreeMap::new();
        let files = shards(model);
        for (_, bytes) in &files {
            let parsed = safetensors::SafeTensors::deserialize(bytes).unwrap();
            for (name, view) in parsed.tensors() {
                expected.insert(name, (view.shape().to_vec(), view.data().to_vec()));
            }
        }
        assert_eq!(read.tensors.len(), expected.len());
        for (info, data) in read.tensors {
            assert_eq!(info.row_order, RowOrder::Natural);
            let bf16 = model.ends_with("bf16");
            assert_eq!(
                info.dtype,
                if bf16 {
                    GgmlDType::BF16
                } else {
                    GgmlDType::F32
                }
            );
            assert!(expected[&info.name] == (info.shape, data), "{}", info.name);
        }
    }
}

/// `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py:
/// `weights.reshape(heads, 2, rows / heads / 2, …).swapaxes(1, 2)`.
fn permute(rows: Vec<&[u8]>, heads: usize) -> Vec<u8> {
    let half = rows.len() / heads / 2;
    let mut out = Vec::new();
    for head in 0..heads {
        for i in 0..half {
            for part in 0..2 {
                out.extend(rows[(head * 2 + part) * half + i]);
            }
        }
    }
    out
}

#[test]
fn gguf_and_safetensors_of_a_model_hold_the_same_weights() {
    for model in GGUF {
        let checkpoint = read_checkpoint(model, 4096).unwrap();
        let by_role: BTreeMap<_, _> = checkpoint
            .tensors
            .iter()
            .map(|(info, data)| (info.role, (info, data)))
            .collect();
        let gguf = read_gguf(&fixture(&format!("{model}.gguf")), 4096).unwrap();
        assert_eq!(gguf.tensors.len(), by_role.len());
        let mut permuted = 0;
        for (info, data) in &gguf.tensors {
            let (reference, expected) = by_role[&info.role];
            assert_eq!(info.shape, reference.shape, "{}", info.name);
            let same = match info.row_order {
                RowOrder::Natural => data == expected,
                RowOrder::GgufRope { heads } => {
                    permuted += 1;
                    let row = expected.len() / info.shape[0];
                    *data == permute(expected.chunks(row).collect(), heads)
                }
            };
            assert!(same, "{model}: {} is not {}", info.name, reference.name);
        }
        let header = gguf.header.unwrap();
        assert_eq!(permuted, 2 * header.config.num_hidden_layers);

        let mut config = ModelConfig::from_json(&text(&format!("{model}/config.json"))).unwrap();
        // GGUF has room for one end token only.
        config.eos_token_ids.truncate(1);
        let mut found = header.config;
        // transformers' number is a double that GGUF stores as a float.
        assert_eq!(found.rms_norm_eps, config.rms_norm_eps);
        // The converter leaves the beginning of text out where the tokenizer adds none.
        found.bos_token_id = config.bos_token_id;
        assert_eq!(found, config, "{model}");
    }
}

#[test]
fn bf16_weights_are_the_first_half_of_their_floats() {
    let floats = read_checkpoint("llama-tied", 4096).unwrap().tensors;
    let halves = read_checkpoint("llama-tied-bf16", 4096).unwrap().tensors;
    let floats: BTreeMap<_, _> = floats.into_iter().map(|(i, data)| (i.role, data)).collect();
    for (info, data) in halves {
        let widened: Vec<u8> = data.chunks(2).flat_map(|x| [0, 0, x[0], x[1]]).collect();
        assert!(floats[&info.role] == widened, "{}", info.name);
    }
}

#[test]
fn harmless_extras_are_stepped_over() {
    let mut file = GgufFile::tiny();
    let expected = read_gguf(&file.bytes(), 100).unwrap().tensors;
    let ones: Vec<u8> = [1f32; 8].iter().flat_map(|x| x.to_le_bytes()).collect();
    file.push("rope_freqs.weight", &[8], F32, ones);
    let mut bytes = file.bytes();
    // llama.cpp takes no offence at what follows, and writers pad the last tensor or do not.
    bytes.extend([7; 100]);
    for chunk in [1, 100, usize::MAX] {
        assert!(read_gguf(&bytes, chunk).unwrap().tensors == expected);
    }

    let mut tensors = tiny_tensors();
    tensors.insert(3, ("lm_head.weight", "F32", &[8, 32], floats(99, 256)));
    tensors.push((
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "F32",
        &[8],
        floats(9, 8),
    ));
    let config = ModelConfig::from_json(&tiny_config(json!({}))).unwrap();
    for chunk in [1, 100, usize::MAX] {
        let mut reader = SafetensorsReader::new(config.clone());
        let mut recorder = Recorder::default();
        for piece in safetensors_of(&tensors).chunks(chunk) {
            reader.feed(piece, &mut recorder).unwrap();
        }
        reader.finish().unwrap();
        let expected: Vec<_> = tiny_tensors().into_iter().map(|t| t.3).collect();
        let read: Vec<_> = recorder.tensors.into_iter().map(|(_, data)| data).collect();
        assert!(read == expected);
    }
}

#[test]
fn version_2_and_other_alignments_read_the_same() {
    let expected = read_gguf(&GgufFile::tiny().bytes(), 64).unwrap().tensors;
    for (version, alignment) in [(2, 32), (3, 8), (3, 4096)] {
        let mut file = GgufFile::tiny();
        file.version = version;
        file.alignment = alignment;
        file.set("general.alignment", alignment as u32);
        let read = read_gguf(&file.bytes(), 64).unwrap();
        assert!(
            read.tensors == expected,
            "version {version}, alignment {alignment}"
        );
    }
}

#[test]
fn shards_missing_from_a_checkpoint_are_noticed() {
    let config = ModelConfig::from_json(&text("smollm3/config.json")).unwrap();
    let files = shards("smollm3");
    let mut reader = SafetensorsReader::new(config.clone());
    let mut sink = Recorder::default();
    reader.begin_file(&files[0].0).unwrap();
    reader.feed(&files[0].1, &mut sink).unwrap();
    let error = reader.finish().unwrap_err();
    assert_eq!(error.code(), "not_a_model");
    assert!(error.to_string().contains("missing"), "{error}");

    let mut reader = SafetensorsReader::new(config.clone());
    reader.begin_file(&files[0].0).unwrap();
    reader.feed(&files[0].1[..1000], &mut sink).unwrap();
    let error = reader.begin_file(&files[1].0).unwrap_err().to_string();
    assert!(
        error.starts_with(&files[0].0) && error.contains("missing"),
        "{error}"
    );

    let mut reader = SafetensorsReader::new(config);
    for name in ["a.safetensors", "b.safetensors"] {
        reader.begin_file(name).unwrap();
        let fed = reader.feed(&files[0].1, &mut sink);
        if let Err(error) = fed {
            assert!(error.to_string().starts_with(name), "{error}");
            return;
        }
    }
    panic!("the same shard was taken twice");
}

#[test]
fn configs_in_every_spelling() {
    let read = |changes: Value| ModelConfig::from_json(&tiny_config(changes)).unwrap();
    let plain = read(json!({}));
    assert_eq!(plain.architecture, Architecture::Llama);
    assert_eq!(
        (plain.head_dim, plain.q_dim(), plain.kv_dim()),
        (16, 32, 16)
    );
    assert_eq!(plain.no_rope_layers, [false]);
    assert_eq!(plain.bos_token_id, Some(TokenId(1)));
    assert_eq!(plain.eos_token_ids, [TokenId(2)]);

    assert_eq!(
        read(json!({"eos_token_id": [2, 0]})).eos_token_ids,
        [TokenId(2), TokenId(0)]
    );
    assert_eq!(read(json!({"head_dim": 32})).q_dim(), 64);
    assert_eq!(
        read(json!({"num_key_value_heads": null})).num_key_value_heads,
        2
    );
    assert!(!read(json!({"tie_word_embeddings": null})).tie_word_embeddings);
    assert_eq!(read(json!({"architectures": null})), plain);
    assert_eq!(
        read(json!({"rope_scaling": {"rope_type": "default"}})),
        plain
    );
    // transformers 5.
    let theta =
        json!({"rope_theta": null, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
    assert_eq!(read(theta).rope_theta, 5e5);

    let smollm3 = |changes: Value| {
        let mut all = json!({
            "architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 6,
            "tie_word_embeddings": null,
        });
        all.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        read(all)
    };
    let every_fourth = [false, false, false, true, false, false];
    assert_eq!(smollm3(json!({})).no_rope_layers, every_fourth);
    assert!(smollm3(json!({})).tie_word_embeddings);
    assert_eq!(
        smollm3(json!({"no_rope_layer_interval": 2})).no_rope_layers,
        [false, true, false, true, false, true]
    );
    // 1 means that the layer uses RoPE.
    let listed =
        smollm3(json!({"no_rope_layers": [1, 0, 1, 1, 1, 0], "no_rope_layer_interval": 2}));
    assert_eq!(
        listed.no_rope_layers,
        [false, true, false, false, false, true]
    );
}

// The whole loader.

fn load_gguf(model: &str, chunk: usize) -> LoadedModel {
    let mut loader = Loader::gguf(LoadOptions::default());
    loader.begin_file(&format!("{model}.gguf")).unwrap();
    for piece in fixture(&format!("{model}.gguf")).chunks(chunk) {
        loader.feed(piece).unwrap();
    }
    loader.finish().unwrap()
}

fn load_checkpoint(model: &str, chunk: usize) -> LoadedModel {
    let files: BTreeMap<String, String> = CheckpointTexts::FILES
        .iter()
        .filter_map(|(name, _)| {
            let path = format!(
                "{}/tests/fixtures/models/{model}/{name}",
                env!("CARGO_MANIFEST_DIR")
            );
            Some(((*name).to_owned(), std::fs::read_to_string(path).ok()?))
        })
        .collect();
    let texts = CheckpointTexts::from_files(|name| files.get(name).map(String::as_str)).unwrap();
    let mut loader = Loader::safetensors(&texts, LoadOptions::default()).unwrap();
    assert!(loader.config().is_some());
    for (name, bytes) in shards(model) {
        loader.begin_file(&name).unwrap();
        for piece in bytes.chunks(chunk) {
            loader.feed(piece).unwrap();
        }
    }
    loader.finish().unwrap()
}

fn logits(loaded: &LoadedModel) -> Vec<u32> {
    let ids: Vec<_> = [5, 300, 17, 44, 101, 7].map(TokenId).to_vec();
    let mut cache = loaded.model.new_cache(16).unwrap();
    let logits = loaded.model.forward(&ids, &mut cache, Logits::All).unwrap();
    assert_eq!(logits.len(), ids.len() * loaded.model.config().vocab_size);
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_model_is_the_same_whichever_file_it_comes_from() {
    for model in GGUF {
        let gguf = load_gguf(model, 1 << 16);
        let checkpoint = load_checkpoint(model, 1 << 20);
        assert!(logits(&gguf) == logits(&checkpoint), "{model}");
        assert_eq!(gguf.end_tokens, checkpoint.end_tokens, "{model}");
        assert_eq!(gguf.end_tokens, [TokenId(2), TokenId(0)], "{model}");
        assert_eq!(
            gguf.template.source(),
            checkpoint.template.source(),
            "{model}"
        );
        assert_eq!(gguf.context_length, checkpoint.context_length);
        assert_eq!(gguf.sampling, checkpoint.sampling);
        assert_eq!(
            gguf.tokenizer.vocab_size(),
            checkpoint.tokenizer.vocab_size()
        );
        assert_eq!(gguf.name, model);
        assert!(gguf.known.is_none());
    }
    assert!(
        logits(&load_gguf("llama-tied", 999)) == logits(&load_checkpoint("llama-tied-bf16", 999))
    );
}

#[test]
fn progress_counts_bytes_and_tensors() {
    let bytes = fixture("llama-tied.gguf");
    let mut loader = Loader::gguf(LoadOptions::default());
    assert!(loader.config().is_none());
    loader.feed(&bytes[..10]).unwrap();
    let start = loader.progress();
    assert_eq!((start.bytes_seen, start.bytes_total), (10, None));
    loader.feed(&bytes[10..bytes.len() - 1]).unwrap();
    let near = loader.progress();
    assert_eq!(near.bytes_total, Some(bytes.len() as u64));
    assert_eq!((near.tensors_done, near.tensors_total), (19, 20));
    assert_eq!(loader.config().unwrap().num_hidden_layers, 2);
    loader.feed(&bytes[bytes.len() - 1..]).unwrap();
    let end = loader.progress();
    assert_eq!(end.tensors_done, 20);
    assert_eq!(end.bytes_seen, bytes.len() as u64);
    loader.finish().unwrap();
}
