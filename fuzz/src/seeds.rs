//! Where fuzzing starts: small good inputs for every target.

use std::path::Path;
use std::sync::LazyLock;
use std::{fs, io};

use serde_json::json;
use sha2::{Digest, Sha256};
use smollm_web::ModelConfig;
use smollm_web::int4::{CodeBits, StoredGroup, StoredRow, encode};
use smollm_web::weights::pack::{FileEntry, Manifest, Nearest, PackFormat, PackWriter};
use smollm_web::weights::{SafetensorsReader, TensorRole};

use crate::{CONFIG, config};

/// The one shard of the tiny pack.
pub const SHARD_NAME: &str = "weights-00001.bin";

const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}";

/// Writes the seeds of a target to where cargo-fuzz looks for its inputs.
///
/// # Errors
/// Those of the file system.
pub fn write(target: &str) -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&corpus)?;
    for (_, name, bytes) in all().into_iter().filter(|seed| seed.0 == target) {
        fs::write(corpus.join(name), bytes)?;
    }
    Ok(())
}

/// Every seed, as (target, name, bytes).
fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));
    add("config", "llama", CONFIG.into());
    let smollm3 = CONFIG.replace("LlamaForCausalLM", "SmolLM3ForCausalLM");
    let smollm3 = smollm3.replace("\"llama\"", "\"smollm3\",\"no_rope_layer_interval\":4");
    add("config", "smollm3", smollm3.into());
    for (name, kind) in [("f32", F32), ("q4_1", Q4_1), ("q8_0", Q8_0), ("q6_k", Q6_K)] {
        for architecture in ["llama", "smollm3"] {
            // The last byte says how the file is cut into chunks.
            let mut file = gguf(architecture, kind);
            file.push(3);
            add("gguf", &format!("{architecture}-{name}"), file);
        }
    }
    for name in ["F32", "BF16", "F16"] {
        let mut file = safetensors(name);
        file.push(5);
        add("safetensors", name, file);
    }
    add(
        "safetensors",
        "index",
        br#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#.into(),
    );
    let (manifest, shard) = &*PACK;
    let sealed = manifest.to_text().expect("the manifest is good");
    add("manifest", "sealed", sealed.into());
    let mut start = 0;
    for (index, tensor) in (0u8..).zip(&manifest.tensors) {
        let end = start + tensor.bytes as usize;
        // Which tensor these bytes are to be, and how they are cut into chunks.
        let seed = [&[index], &shard[start..end], &[7]].concat();
        add("pack", &tensor.name, seed);
        start = end;
    }
    for bits in [CodeBits::Four, CodeBits::Six] {
        let group = StoredGroup {
            codes: std::array::from_fn(|i| i as u8 % (bits.max_code() + 1)),
            scale: 40,
            minimum: -3,
        };
        let row = StoredRow {
            // A power of two, and so a bf16.
            scale: 0.007_812_5,
            minimum_step: 9,
            groups: vec![group; 2],
        };
        let rows = vec![row; 9];
        let shape = [u8::from(bits == CodeBits::Six), 8, 1];
        let bytes = [&shape[..], &encode(bits, 64, &rows)].concat();
        add("coded", &format!("{bits:?}"), bytes);
    }
    add(
        "tokenizer",
        "smollm",
        [tokenizer(false).as_bytes(), b"\0abc <|im_end|>12"].concat(),
    );
    add(
        "tokenizer",
        "llama3",
        [tokenizer(true).as_bytes(), b"\0It's AB\r\n  12"].concat(),
    );
    add(
        "text",
        "words",
        "It's  1234 'LL\r\n \t été 漢字 <|im_start|>".into(),
    );
    add(
        "text",
        "marks",
        "\u{85}\u{a0}ſ'ſ\u{301}²Ⅷ😀\u{200d}\0".into(),
    );
    seeds
}

/// The tiny pack: its manifest, and the bytes of its one shard.
pub static PACK: LazyLock<(Manifest, Vec<u8>)> = LazyLock::new(|| {
    let mut manifest = Manifest::new(&config());
    let mut bytes = Vec::new();
    let mut writer = PackWriter::new(PackFormat::INT4, Nearest, |tensor: &[u8]| {
        bytes.extend_from_slice(tensor);
        Ok(())
    });
    let mut reader = SafetensorsReader::new(config());
    let fed = reader.feed(&safetensors("F32"), &mut writer);
    fed.and_then(|()| reader.finish())
        .expect("the checkpoint is good");
    (manifest.tensors, _) = writer.finish();
    manifest.shards.push(FileEntry::of(SHARD_NAME, &bytes));
    manifest.files.push(FileEntry::of("tokenizer.json", b"{}"));
    (manifest, bytes)
});

/// A manifest's text with the hash that belongs to it, whatever it ends in.
pub fn sealed(text: &str) -> String {
    let body = match text.rfind(",\"sha256\":\"") {
        Some(at) if text[at..].ends_with("\"}\n") => &text[..at],
        _ => text.trim_end().strip_suffix('}').unwrap_or(text),
    };
    let digest: String = Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{body},\"sha256\":\"{digest}\"}}\n")
}

fn name_of(role: TensorRole) -> String {
    use smollm_web::weights::LayerPart::{AttnNorm, Down, FfnNorm, Gate, K, O, Q, Up, V};
    match role {
        TensorRole::TokenEmbedding => "model.embed_tokens.weight".into(),
        TensorRole::OutputNorm => "model.norm.weight".into(),
        TensorRole::Output => "lm_head.weight".into(),
        TensorRole::Layer { index, part } => {
            let part = match part {
                AttnNorm => "input_layernorm",
                Q => "self_attn.q_proj",
                K => "self_attn.k_proj",
                V => "self_attn.v_proj",
                O => "self_attn.o_proj",
                FfnNorm => "post_attention_layernorm",
                Gate => "mlp.gate_proj",
                Up => "mlp.up_proj",
                Down => "mlp.down_proj",
            };
            format!("model.layers.{index}.{part}.weight")
        }
    }
}

/// Bytes that are sensible numbers in every type: 0x3c3c is 1.06 as float16 and 0.0115 as bfloat16.
fn numbers(bytes: usize) -> Vec<u8> {
    vec![0x3c; bytes]
}

fn safetensors(dtype: &str) -> Vec<u8> {
    let config = config();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for role in TensorRole::all(&config) {
        let shape = role.shape(&config);
        let start = end;
        end += shape.iter().product::<usize>() * if dtype == "F32" { 4 } else { 2 };
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name_of(role), entry);
    }
    let header = serde_json::Value::from(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &numbers(end)].concat()
}

/// A GGML type: its number, the weights in a block, the bytes of a block.
type GgmlType = (u32, u64, u64);
const F32: GgmlType = (0, 1, 4);
const Q4_1: GgmlType = (3, 32, 20);
const Q8_0: GgmlType = (8, 32, 34);
const Q6_K: GgmlType = (14, 256, 210);

/// A GGUF file of version 3.
fn gguf(architecture: &str, kind: GgmlType) -> Vec<u8> {
    // K-quants have blocks of 256.
    let wide = if kind.1 > 32 { 256 } else { 32 };
    let text = CONFIG.replace("_size\":32", &format!("_size\":{wide}"));
    let config = ModelConfig::from_json(&text).expect("the config is good");
    let roles: Vec<_> = TensorRole::all(&config).collect();
    let tokens = tokens();
    let types: Vec<u32> = (0..tokens.len())
        .map(|id| if id < 3 { 3 } else { 1 })
        .collect();

    let mut keys = Keys::default();
    keys.string("general.architecture", architecture);
    let mut number = |name: &str, value: usize| {
        keys.number(
            &format!("{architecture}.{name}"),
            4,
            &(value as u32).to_le_bytes(),
        );
    };
    number("block_count", 1);
    number("context_length", 64);
    number("embedding_length", config.hidden_size);
    number("feed_forward_length", config.intermediate_size);
    number("attention.head_count", 2);
    number("attention.head_count_kv", 1);
    let float = format!("{architecture}.attention.layer_norm_rms_epsilon");
    keys.number(&float, 6, &1e-5f32.to_le_bytes());
    keys.string("tokenizer.ggml.model", "gpt2");
    keys.string(
        "tokenizer.ggml.pre",
        if architecture == "llama" {
            "smollm"
        } else {
            "llama-bpe"
        },
    );
    keys.strings("tokenizer.ggml.tokens", &tokens);
    keys.array("tokenizer.ggml.token_type", 5, types.len());
    types
        .iter()
        .for_each(|kind| keys.bytes.extend(kind.to_le_bytes()));
    keys.strings("tokenizer.ggml.merges", &["a b".to_owned()]);
    keys.number("tokenizer.ggml.bos_token_id", 4, &1u32.to_le_bytes());
    keys.number("tokenizer.ggml.eos_token_id", 4, &2u32.to_le_bytes());
    keys.string("tokenizer.chat_template", TEMPLATE);

    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend((roles.len() as u64).to_le_bytes());
    file.extend(keys.count.to_le_bytes());
    file.extend(keys.bytes);
    let mut offset = 0u64;
    for role in &roles {
        let shape = role.shape(&config);
        let (number, block, bytes) = if shape.len() == 1 { F32 } else { kind };
        push_string(&mut file, &gguf_name(*role));
        file.extend((shape.len() as u32).to_le_bytes());
        shape
            .iter()
            .rev()
            .for_each(|&size| file.extend((size as u64).to_le_bytes()));
        file.extend(number.to_le_bytes());
        file.extend(offset.to_le_bytes());
        let elements: usize = shape.iter().product();
        offset = (offset + elements as u64 / block * bytes).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(numbers(offset as usize));
    file
}

fn gguf_name(role: TensorRole) -> String {
    use smollm_web::weights::LayerPart::{AttnNorm, Down, FfnNorm, Gate, K, O, Q, Up, V};
    match role {
        TensorRole::TokenEmbedding => "token_embd.weight".into(),
        TensorRole::OutputNorm => "output_norm.weight".into(),
        TensorRole::Output => "output.weight".into(),
        TensorRole::Layer { index, part } => {
            let part = match part {
                AttnNorm => "attn_norm",
                Q => "attn_q",
                K => "attn_k",
                V => "attn_v",
                O => "attn_output",
                FfnNorm => "ffn_norm",
                Gate => "ffn_gate",
                Up => "ffn_up",
                Down => "ffn_down",
            };
            format!("blk.{index}.{part}.weight")
        }
    }
}

/// GGUF's keys and values.
#[derive(Default)]
struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

impl Keys {
    fn number(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.count += 1;
        push_string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
    }

    fn string(&mut self, key: &str, value: &str) {
        self.number(key, 8, &[]);
        push_string(&mut self.bytes, value);
    }

    fn array(&mut self, key: &str, kind: u32, count: usize) {
        self.number(key, 9, &kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.array(key, 8, values.len());
        values
            .iter()
            .for_each(|value| push_string(&mut self.bytes, value));
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// 64 tokens: three for control, letters, digits, one merge.
fn tokens() -> Vec<String> {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        .map(str::to_owned)
        .into();
    tokens.extend(
        ('a'..='z')
            .chain('A'..='Z')
            .chain('0'..='7')
            .map(String::from),
    );
    tokens.push("ab".into());
    assert_eq!(tokens.len(), 64);
    tokens
}

fn tokenizer(llama3: bool) -> String {
    const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let vocab: serde_json::Map<_, _> = (0u32..)
        .zip(tokens())
        .map(|(id, t)| (t, id.into()))
        .collect();
    let cut = if llama3 {
        json!({"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false})
    } else {
        json!({"type": "Digits", "individual_digits": true})
    };
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": !special, "rstrip": false,
               "normalized": !special, "special": special})
    };
    json!({
        "added_tokens": [added(2, "<|im_end|>", true), added(64, "ab ", false)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            cut,
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": !llama3},
        ]},
        "model": {"type": "BPE", "ignore_merges": llama3, "vocab": vocab, "merges": [["a", "b"]]},
    })
    .to_string()
}
