//! Packs: what `quantize_model` writes is what comes back, the same every time, and nothing else is believed.
#![cfg(not(target_arch = "wasm32"))]

mod models;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use models::load_pack;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use smollm_web::config::ModelConfig;
use smollm_web::int4::{CodeBits, GROUP, PackedMatrix};
use smollm_web::model::Logits;
use smollm_web::tokenizer::{ParseSpecial, Tokenizer};
use smollm_web::weights::pack::{MANIFEST, Manifest, Nearest, PackFormat, PackWriter, digest};
use smollm_web::weights::{
    GgufHeader, GgufReader, GgufSink, PackReader, PackedInfo, SafetensorsReader, TensorInfo,
    TensorSink,
};
use smollm_web::{Result, TokenId};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pack-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn quantize(model: &Path, output: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quantize_model"))
        .arg("--model-path")
        .arg(model)
        .arg("--output-path")
        .arg(output)
        .args(["--format", "int4"])
        .args(more)
        .output()
        .unwrap()
}

#[track_caller]
fn quantize_well(model: &Path, output: &Path) -> String {
    let done = quantize(model, output, &[]);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", model.display());
    String::from_utf8(done.stdout).unwrap()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Hands tensors to a writer, and keeps what a GGUF file says first.
struct Taker<'a>(&'a mut dyn TensorSink, Option<GgufHeader>);

impl TensorSink for Taker<'_> {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        self.0.tensor(info, data)
    }
}

impl GgufSink for Taker<'_> {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        self.1 = Some(header);
        Ok(())
    }
}

/// What a pack's reader hands over.
#[derive(Default)]
struct Recorder {
    vectors: Vec<(String, Vec<u8>)>,
    matrices: Vec<(PackedInfo, PackedMatrix)>,
}

impl TensorSink for Recorder {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        self.vectors.push((info.name.clone(), data.to_vec()));
        Ok(())
    }

    fn packed(&mut self, info: &PackedInfo, matrix: PackedMatrix) -> Result<()> {
        self.matrices.push((info.clone(), matrix));
        Ok(())
    }
}

/// The tensors of a model as one stream of bytes, and the manifest of a pack with them in one shard.
fn packed(model: &str, format: PackFormat) -> (Manifest, Vec<u8>, Vec<[u8; 32]>) {
    let mut raw = Vec::new();
    let mut writer = PackWriter::new(format, Nearest, |bytes: &[u8]| {
        raw.extend_from_slice(bytes);
        Ok(())
    });
    let config = if model.ends_with(".gguf") {
        let mut taker = Taker(&mut writer, None);
        let mut reader = GgufReader::new();
        let bytes = fs::read(fixture(model)).unwrap();
        reader.feed(&bytes, &mut taker).unwrap();
        taker.1.unwrap().config
    } else {
        let config = ModelConfig::from_json(&text(&fixture(model).join("config.json"))).unwrap();
        let mut reader = SafetensorsReader::new(config.clone());
        let bytes = fs::read(fixture(model).join("model.safetensors")).unwrap();
        reader.feed(&bytes, &mut writer).unwrap();
        config
    };
    let (tensors, reports) = writer.finish();
    let digests = reports.iter().filter_map(|report| report.digest).collect();
    let mut manifest = Manifest::new(&config);
    manifest.tensors = tensors;
    let shard = json!({
        "name": "one.bin", "bytes": raw.len(), "sha256": "0".repeat(64),
    });
    manifest.shards = vec![serde_json::from_value(shard).unwrap()];
    (manifest, raw, digests)
}

#[test]
fn groups_come_back_as_they_were_written() {
    for model in [
        "llama-tied",
        "llama-tied.gguf",
        "llama-untied.gguf",
        "smollm3.gguf",
    ] {
        for embedding in CodeBits::ALL {
            let format = PackFormat {
                embedding,
                ..PackFormat::INT4
            };
            let (manifest, raw, digests) = packed(model, format);
            let manifest = Manifest::parse(&manifest.to_text().unwrap()).unwrap();
            for chunk in [1000, 65_537, usize::MAX] {
                let config = manifest.model_config().unwrap();
                let mut reader = PackReader::new(&manifest, config).unwrap();
                let mut read = Recorder::default();
                reader.begin_shard("one.bin").unwrap();
                for piece in raw.chunks(chunk) {
                    reader.feed(piece, &mut read).unwrap();
                }
                reader.finish().unwrap();
                let found: Vec<_> = read.matrices.iter().map(|(_, m)| digest(m)).collect();
                assert_eq!(found, digests, "{model}, {embedding:?}, chunks of {chunk}");
                for (info, matrix) in &read.matrices {
                    assert_eq!((matrix.rows(), matrix.cols()), info.shape);
                    assert_eq!(matrix.width(), info.bits.width());
                }
            }
        }
    }
}

/// The reader against the values themselves, not against a digest: within a step of the source's.
#[test]
fn weights_come_back_near_their_source() {
    let (manifest, raw, _) = packed("llama-tied", PackFormat::INT4);
    let mut reader = PackReader::new(&manifest, manifest.model_config().unwrap()).unwrap();
    let mut read = Recorder::default();
    reader.begin_shard("one.bin").unwrap();
    reader.feed(&raw, &mut read).unwrap();
    let source = fs::read(fixture("llama-tied/model.safetensors")).unwrap();
    let source = safetensors::SafeTensors::deserialize(&source).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let view = source.tensor(name).unwrap();
        view.data()
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect()
    };
    for (name, bytes) in &read.vectors {
        assert_eq!(source.tensor(name).unwrap().data(), bytes, "{name}");
    }
    for (info, matrix) in &read.matrices {
        let expected = floats(&info.name);
        let cols = matrix.cols();
        let mut row = vec![0.0; cols];
        for r in 0..matrix.rows() {
            matrix.dequantize_row(r, &mut row);
            for (c, (got, want)) in row.iter().zip(&expected[r * cols..]).enumerate() {
                let group = matrix.group(r, c / GROUP);
                let step = matrix.row_scale(r) * f32::from(group.scale);
                let most = 1.5 * step + 1e-6;
                assert!(
                    (got - want).abs() <= most,
                    "{} {r} {c}: {got} for {want}",
                    info.name
                );
            }
        }
    }
}

#[test]
fn two_runs_write_the_same_files_and_they_load() {
    let scratch = Scratch::new("same");
    for model in [
        "llama-tied",
        "llama-tied-bf16",
        "smollm3",
        "llama-tied.gguf",
        "llama-untied.gguf",
    ] {
        let (one, two) = (scratch.join("one"), scratch.join("two"));
        let table = quantize_well(&fixture(model), &one);
        assert!(
            table.contains("model.layers.1.mlp.down_proj.weight"),
            "{table}"
        );
        quantize_well(&fixture(model), &two);
        assert!(files(&one) == files(&two), "{model}: two runs differ");

        let ids: Vec<TokenId> = (5..25).map(TokenId).collect();
        let logits = |chunk| {
            let loaded = load_pack(&one, chunk);
            let mut cache = loaded.model.new_cache(ids.len()).unwrap();
            loaded.model.forward(&ids, &mut cache, Logits::All).unwrap()
        };
        let whole = logits(usize::MAX);
        assert!(whole.iter().all(|x| x.is_finite()));
        assert!(logits(777) == whole, "{model}: chunks change the model");
        fs::remove_dir_all(one).unwrap();
        fs::remove_dir_all(two).unwrap();
    }
}

#[test]
fn a_pack_keeps_config_tokenizer_and_end_tokens() {
    let scratch = Scratch::new("language");
    for model in ["llama-tied", "llama-untied", "smollm3"] {
        let config = ModelConfig::from_json(&text(&fixture(model).join("config.json"))).unwrap();
        let reference =
            Tokenizer::from_json(text(&fixture(model).join("tokenizer.json")).as_bytes()).unwrap();
        for source in [model.to_owned(), format!("{model}.gguf")] {
            let pack = scratch.join(&source);
            quantize_well(&fixture(&source), &pack);
            let loaded = load_pack(&pack, 4096);
            let mut found = loaded.model.config().clone();
            if source.ends_with(".gguf") {
                // GGUF has room for one end token, and none for a beginning that is not added.
                found.bos_token_id = config.bos_token_id;
                found.eos_token_ids = config.eos_token_ids.clone();
            }
            assert_eq!(found, config, "{source}");
            let sample = "Hello <|im_end|> 123 caf\u{e9}\n\n  \u{1f600}";
            for special in [ParseSpecial::No, ParseSpecial::Yes] {
                assert_eq!(
                    loaded.tokenizer.encode(sample, special).unwrap(),
                    reference.encode(sample, special).unwrap(),
                    "{source}"
                );
            }
            assert!(
                loaded.end_tokens.contains(&config.eos_token_ids[0]),
                "{source}"
            );
        }
    }
}

#[test]
fn a_flipped_byte_in_any_file_is_refused_by_name() {
    let scratch = Scratch::new("flipped");
    let pack = scratch.join("pack");
    quantize_well(&fixture("llama-tied.gguf"), &pack);
    let request = "{\"text\": \"a\"}\n";
    let run = || {
        use std::io::Write;
        let mut child = Command::new(env!("CARGO_BIN_EXE_smollm"))
            .args(["tokenize", "--model"])
            .arg(&pack)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // A refused model closes the pipe before the line is read.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        child.wait_with_output().unwrap()
    };
    assert!(run().status.success());
    let mut shards = 0;
    for (name, content) in files(&pack) {
        shards += usize::from(name.starts_with("weights-"));
        let middle = content.len() / 2;
        for place in [1, middle, middle + 1, content.len() - 1] {
            let mut flipped = content.clone();
            // The lowest bit: text stays text.
            flipped[place] ^= 1;
            fs::write(pack.join(&name), &flipped).unwrap();
            let refused = run();
            let error = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(
                !refused.status.success(),
                "{name}: byte {place} does not matter"
            );
            // What spoils the manifest's syntax is no longer a manifest.
            let code = match error.contains("not_a_model") && name == MANIFEST {
                true => "not_a_model",
                false => "integrity",
            };
            assert!(
                error.contains(code) && error.contains(&name),
                "{name}: byte {place}: {error}"
            );
        }
        fs::write(pack.join(&name), &content[..content.len() - 1]).unwrap();
        let refused = run();
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && error.contains(&name),
            "{name}: {error}"
        );
        fs::write(pack.join(&name), content).unwrap();
    }
    assert!(shards > 0);
}

#[test]
fn absurd_manifests_are_refused() {
    let (manifest, ..) = packed("llama-tied", PackFormat::INT4);
    let good = manifest.to_text().unwrap();
    assert_eq!(Manifest::parse(&good).unwrap(), manifest);
    for cut in 0..good.len() {
        let error = Manifest::parse(&good[..cut]).unwrap_err();
        assert_eq!(error.code(), "not_a_model", "cut at {cut}: {error}");
        assert!(error.to_string().contains(MANIFEST), "{error}");
    }
    let edited = good.replace("silu", "gelu");
    assert_ne!(edited, good);
    assert_eq!(Manifest::parse(&edited).unwrap_err().code(), "integrity");

    let mut good: Value = serde_json::from_str(&good).unwrap();
    good.as_object_mut().unwrap().shift_remove("sha256");
    let changes: [(&str, &str, Value); 14] = [
        ("", "/format", json!("zip")),
        ("version 3", "/version", json!(3)),
        ("are not those of", "/tensors/0/bytes", json!(0)),
        ("are not those of", "/tensors/0/bytes", json!(u64::MAX)),
        (
            "are not those of",
            "/tensors/0/shape",
            json!([u64::MAX >> 1, 64]),
        ),
        ("are not those of", "/tensors/0/shape", json!([0, 64])),
        ("are not those of", "/tensors/0/shape", json!([512, 63])),
        ("are not those of", "/tensors/0/encoding", json!("f32")),
        ("int3", "/tensors/0/encoding", json!("int3")),
        ("shards hold", "/shards/0/bytes", json!(1)),
        ("bytes are not in", "/shards/0/bytes", json!(9 << 20)),
        ("no file's name", "/shards/0/name", json!("../one.bin")),
        ("sha256", "/shards/0/sha256", json!("0")),
        ("shards hold", "/shards", json!([])),
    ];
    for (says, place, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value.clone();
        let error = Manifest::parse(&sealed(&bad.to_string())).unwrap_err();
        assert_eq!(error.code(), "not_a_model", "{place} = {value}: {error}");
        let said = error.to_string();
        assert!(
            said.contains(says) && said.contains(MANIFEST),
            "{place} = {value}: {said}"
        );
    }
    // What only the config can tell.
    let text = good.to_string();
    for (says, from, to) in [
        (
            "appears twice",
            "model.layers.1.mlp.up_proj",
            "model.layers.0.mlp.up_proj",
        ),
        (
            "no such tensor",
            "model.layers.1.mlp.up_proj",
            "model.layers.9.mlp.up_proj",
        ),
    ] {
        let manifest = Manifest::parse(&sealed(&text.replace(from, to))).unwrap();
        let read = PackReader::new(&manifest, manifest.model_config().unwrap());
        let error = read.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// A manifest's text with its hash, as a forger would make it.
fn sealed(object: &str) -> String {
    let content = object.strip_suffix('}').unwrap();
    let digest = Sha256::digest(content);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{content},\"sha256\":\"{digest}\"}}\n")
}

#[test]
fn shards_too_short_too_long_or_out_of_order_are_refused() {
    let (manifest, raw, _) = packed("llama-tied", PackFormat::INT4);
    let reader = || PackReader::new(&manifest, manifest.model_config().unwrap()).unwrap();
    let sink = &mut Recorder::default();

    let mut short = reader();
    short.begin_shard("one.bin").unwrap();
    short.feed(&raw[..raw.len() - 1], sink).unwrap();
    let mut long = reader();
    long.begin_shard("one.bin").unwrap();
    let mut more = raw.clone();
    more.push(0);
    for error in [
        short.finish().unwrap_err(),
        long.feed(&more, sink).unwrap_err(),
        reader().finish().unwrap_err(),
        // Bytes before any shard.
        reader().feed(&raw, sink).unwrap_err(),
    ] {
        assert_eq!(error.code(), "integrity", "{error}");
    }
    let error = reader().begin_shard("two.bin").unwrap_err();
    assert_eq!(error.code(), "invalid_argument");
    assert!(
        long.feed(&raw, sink).is_err(),
        "a reader went on after an error"
    );
}
