//! Packs of every kind of source: each element and block type that the readers know gives a pack whose model is the
//! source's, and the pack's model is the one that the same rounding gives without going through files.
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use models::load_pack;
use smollm_web::int4::{CodeBits, PackedMatrix, StoredGroup};
use smollm_web::loader::{LoadOptions, Loader};
use smollm_web::model::{Logits, Model, ModelBuilder, Precision};
use smollm_web::weights::pack::{
    Manifest, Nearest, PackFormat, PackWriter, Rounding, SourceMatrix,
};
use smollm_web::weights::{
    GgufHeader, GgufReader, GgufSink, PackReader, PackedInfo, SafetensorsReader, TensorInfo,
    TensorRole, TensorSink,
};
use smollm_web::{ModelConfig, Result, TokenId};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

/// A directory of this test's own, empty.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pack-sources-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn quantize(source: &Path, pack: &Path) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_quantize_model"))
        .args(["--format", "int4", "--model-path"])
        .arg(source)
        .arg("--output-path")
        .arg(pack)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", source.display());
    String::from_utf8(done.stdout).unwrap()
}

fn logits(model: &Model) -> Vec<f32> {
    let ids: Vec<TokenId> = (5..37).map(TokenId).collect();
    let mut cache = model.new_cache(ids.len()).unwrap();
    model.forward(&ids, &mut cache, Logits::All).unwrap()
}

/// A model whose matrices are rounded and packed in memory.
struct InMemory {
    builder: Option<ModelBuilder>,
}

impl TensorSink for InMemory {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        let builder = self.builder.as_mut().expect("a config");
        let &[rows, cols] = &info.shape[..] else {
            return builder.tensor(info, data);
        };
        let source = SourceMatrix::new(info, data)?;
        let bits = match info.role {
            _ if source.is_affine() => CodeBits::Four,
            TensorRole::TokenEmbedding | TensorRole::Output => PackFormat::INT4.embedding,
            _ => PackFormat::INT4.layers,
        };
        let mut matrix = PackedMatrix::zeros(bits.width(), rows, cols)?;
        let mut row = 0;
        Nearest.round(&source, bits, &mut |stored| {
            let group = |g: &StoredGroup| g.group(bits, stored.minimum_step).expect("an i16");
            let groups: Vec<_> = stored.groups.iter().map(group).collect();
            matrix.set_row(row, stored.scale, &groups);
            row += 1;
            Ok(())
        })?;
        let info = PackedInfo {
            name: info.name.clone(),
            role: info.role,
            shape: (rows, cols),
            bits,
        };
        builder.packed(&info, matrix)
    }
}

impl GgufSink for InMemory {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        self.builder = Some(ModelBuilder::new(header.config, Precision::Source));
        Ok(())
    }
}

/// Hands a fixture's tensors to `sink`.
fn read(source: &str, sink: &mut dyn GgufSink) {
    let bytes = |path: &Path| fs::read(path).unwrap();
    if source.ends_with(".gguf") {
        let mut reader = GgufReader::new();
        reader.feed(&bytes(&fixture(source)), sink).unwrap();
        reader.finish().unwrap();
    } else {
        let mut reader = SafetensorsReader::new(config(source));
        let file = fixture(source).join("model.safetensors");
        reader.feed(&bytes(&file), sink).unwrap();
        reader.finish().unwrap();
    }
}

fn config(checkpoint: &str) -> ModelConfig {
    let text = fs::read_to_string(fixture(checkpoint).join("config.json")).unwrap();
    ModelConfig::from_json(&text).unwrap()
}

/// A writer of packs that keeps what a GGUF file says first.
struct Writer<W> {
    writer: W,
    config: Option<ModelConfig>,
}

impl<W: TensorSink> TensorSink for Writer<W> {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        self.writer.tensor(info, data)
    }
}

impl<W: TensorSink> GgufSink for Writer<W> {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        self.config = Some(header.config);
        Ok(())
    }
}

#[test]
fn a_pack_is_the_model_that_the_same_rounding_gives_in_memory() {
    for source in [
        "llama-tied",
        "llama-tied-bf16",
        "llama-tied.gguf",
        "llama-untied.gguf",
        "smollm3.gguf",
    ] {
        let known = (!source.ends_with(".gguf")).then(|| config(source));
        let mut raw = Vec::new();
        let mut writer = Writer {
            writer: PackWriter::new(PackFormat::INT4, Nearest, |bytes: &[u8]| {
                raw.extend_from_slice(bytes);
                Ok(())
            }),
            config: known.clone(),
        };
        read(source, &mut writer);
        let config = writer.config.unwrap();
        let mut manifest = Manifest::new(&config);
        manifest.tensors = writer.writer.finish().0;
        let shard = serde_json::json!({
            "name": "one.bin", "bytes": raw.len(), "sha256": "0".repeat(64),
        });
        manifest.shards = vec![serde_json::from_value(shard).unwrap()];
        let mut reader = PackReader::new(&manifest, config.clone()).unwrap();
        let mut packed = ModelBuilder::new(config, Precision::Source);
        reader.begin_shard("one.bin").unwrap();
        for piece in raw.chunks(4321) {
            reader.feed(piece, &mut packed).unwrap();
        }
        reader.finish().unwrap();

        let mut memory = InMemory {
            builder: known.map(|config| ModelBuilder::new(config, Precision::Source)),
        };
        read(source, &mut memory);
        let expected = logits(&memory.builder.unwrap().finish().unwrap());
        assert!(logits(&packed.finish().unwrap()) == expected, "{source}");
    }
}

const HIDDEN: usize = 256;

/// A GGUF file of one layer, wide enough for blocks of 256, its matrices in `dtype` and its vocabulary a fixture's.
fn gguf_of(dtype: GgmlDType, path: &Path) {
    let mut fixture = BufReader::new(File::open(fixture("llama-tied.gguf")).unwrap());
    let mut metadata: Vec<(String, Value)> = Content::read(&mut fixture)
        .unwrap()
        .metadata
        .into_iter()
        .collect();
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
    let mut vocab = 0;
    for (key, value) in &mut metadata {
        match key.as_str() {
            "llama.block_count" => *value = Value::U32(1),
            "llama.embedding_length" | "llama.feed_forward_length" => {
                *value = Value::U32(HIDDEN as u32);
            }
            "llama.attention.head_count" => *value = Value::U32(4),
            "llama.attention.head_count_kv" => *value = Value::U32(2),
            "llama.rope.dimension_count"
            | "llama.attention.key_length"
            | "llama.attention.value_length" => *value = Value::U32(64),
            "tokenizer.ggml.tokens" => vocab = value.to_vec().unwrap().len(),
            _ => {}
        }
    }
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut matrix = |rows: usize| {
        let weights: Vec<f32> = (0..rows * HIDDEN)
            .map(|_| (random() + random() + random()) / 4.0)
            .collect();
        let weights = Tensor::from_vec(weights, (rows, HIDDEN), &Device::Cpu).unwrap();
        QTensor::quantize(&weights, dtype).unwrap()
    };
    let ones = || {
        let ones = Tensor::ones(HIDDEN, candle_core::DType::F32, &Device::Cpu).unwrap();
        QTensor::quantize(&ones, GgmlDType::F32).unwrap()
    };
    let tensors = [
        ("token_embd.weight", matrix(vocab)),
        ("blk.0.attn_norm.weight", ones()),
        ("blk.0.attn_q.weight", matrix(HIDDEN)),
        ("blk.0.attn_k.weight", matrix(HIDDEN / 2)),
        ("blk.0.attn_v.weight", matrix(HIDDEN / 2)),
        ("blk.0.attn_output.weight", matrix(HIDDEN)),
        ("blk.0.ffn_norm.weight", ones()),
        ("blk.0.ffn_gate.weight", matrix(HIDDEN)),
        ("blk.0.ffn_up.weight", matrix(HIDDEN)),
        ("blk.0.ffn_down.weight", matrix(HIDDEN)),
        ("output_norm.weight", ones()),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (*name, t)).collect();
    write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y));
        products.sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn every_type_of_a_gguf_file_becomes_a_pack_that_answers_alike() {
    let scratch = scratch("types");
    for dtype in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let file = scratch.join(format!("{dtype:?}.gguf"));
        gguf_of(dtype, &file);
        let pack = scratch.join(format!("{dtype:?}"));
        let table = quantize(&file, &pack);
        assert!(table.contains("bits a weight"), "{table}");

        let mut loader = Loader::gguf(LoadOptions::default());
        loader.feed(&fs::read(&file).unwrap()).unwrap();
        let expected = logits(&loader.finish().unwrap().model);
        let found = logits(&load_pack(&pack, 4096).model);
        let likeness = cosine(&expected, &found);
        // The weights are random, so nothing of what rounding takes away is made up for elsewhere; a matrix that is read
        // wrongly leaves nothing alike.
        let least = 0.8;
        assert!(likeness >= least, "{dtype:?}: {likeness}");
    }
    fs::remove_dir_all(scratch).unwrap();
}
