//! Small model files made in memory, good ones and bad ones, and sinks that write down what readers
//! hand them.
//!
//! The writers know nothing of the readers: they follow the formats' descriptions, and write whatever
//! they are told, however wrong.
#![allow(dead_code)] // each test binary uses its own part

use smollm_web::error::Result;
use smollm_web::weights::{GgufHeader, GgufReader, GgufSink, TensorInfo, TensorSink};

/// A metadata value.
#[derive(Clone)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    /// Any type id, and the bytes after it.
    Raw(u32, Vec<u8>),
}

impl From<u32> for Value {
    fn from(x: u32) -> Self {
        Self::U32(x)
    }
}
impl From<f32> for Value {
    fn from(x: f32) -> Self {
        Self::F32(x)
    }
}
impl From<bool> for Value {
    fn from(x: bool) -> Self {
        Self::Bool(x)
    }
}
impl From<&str> for Value {
    fn from(x: &str) -> Self {
        Self::Text(x.into())
    }
}

/// A tensor of a GGUF file.
#[derive(Clone)]
pub struct GgufTensor {
    pub name: String,
    /// As GGUF writes them: the row's length first.
    pub dims: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
    /// Instead of the right one.
    pub offset: Option<u64>,
}

/// A GGUF file. The counts can be overridden.
#[derive(Clone)]
pub struct GgufFile {
    pub magic: [u8; 4],
    pub version: u32,
    pub alignment: usize,
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<GgufTensor>,
    pub key_count: Option<u64>,
    pub tensor_count: Option<u64>,
}

pub const F32: u32 = 0;
pub const F16: u32 = 1;

/// Width of [`GgufFile::tiny`].
pub const HIDDEN: usize = 32;
pub const VOCAB: usize = 8;
/// Names and `[out, in]` shapes of a tied one-layer Llama with 2 heads of 16 and one key head, in
/// GGUF's and in Hugging Face's words.
pub const TINY: [(&str, &str, &[usize]); 11] = [
    (
        "token_embd.weight",
        "model.embed_tokens.weight",
        &[VOCAB, HIDDEN],
    ),
    (
        "blk.0.attn_norm.weight",
        "model.layers.0.input_layernorm.weight",
        &[HIDDEN],
    ),
    (
        "blk.0.attn_q.weight",
        "model.layers.0.self_attn.q_proj.weight",
        &[32, HIDDEN],
    ),
    (
        "blk.0.attn_k.weight",
        "model.layers.0.self_attn.k_proj.weight",
        &[16, HIDDEN],
    ),
    (
        "blk.0.attn_v.weight",
        "model.layers.0.self_attn.v_proj.weight",
        &[16, HIDDEN],
    ),
    (
        "blk.0.attn_output.weight",
        "model.layers.0.self_attn.o_proj.weight",
        &[HIDDEN, 32],
    ),
    (
        "blk.0.ffn_norm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        &[HIDDEN],
    ),
    (
        "blk.0.ffn_gate.weight",
        "model.layers.0.mlp.gate_proj.weight",
        &[64, HIDDEN],
    ),
    (
        "blk.0.ffn_up.weight",
        "model.layers.0.mlp.up_proj.weight",
        &[64, HIDDEN],
    ),
    (
        "blk.0.ffn_down.weight",
        "model.layers.0.mlp.down_proj.weight",
        &[HIDDEN, 64],
    ),
    ("output_norm.weight", "model.norm.weight", &[HIDDEN]),
];

/// Different floats for every tensor.
pub fn floats(seed: usize, count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| ((seed * 1000 + i) as f32 / 512.0).to_le_bytes())
        .collect()
}

impl GgufFile {
    /// A complete, valid model of [`TINY`]'s shapes in f32, without vocabulary.
    pub fn tiny() -> Self {
        let mut file = Self {
            magic: *b"GGUF",
            version: 3,
            alignment: 32,
            keys: Vec::new(),
            tensors: Vec::new(),
            key_count: None,
            tensor_count: None,
        };
        file.set("general.architecture", "llama");
        file.set("general.name", "tiny");
        file.set("llama.block_count", 1);
        file.set("llama.context_length", 64);
        file.set("llama.embedding_length", HIDDEN as u32);
        file.set("llama.feed_forward_length", 64);
        file.set("llama.attention.head_count", 2);
        file.set("llama.attention.head_count_kv", 1);
        file.set("llama.attention.layer_norm_rms_epsilon", 1e-5);
        file.set("llama.rope.freq_base", 1e4);
        file.set("llama.vocab_size", VOCAB as u32);
        file.set("tokenizer.ggml.eos_token_id", 2);
        file.set(
            "tokenizer.ggml.tokens",
            Value::Texts((0..VOCAB).map(|i| format!("token {i}")).collect()),
        );
        file.set("tokenizer.ggml.token_type", Value::I32s(vec![1; VOCAB]));
        for (seed, (name, _, shape)) in TINY.iter().enumerate() {
            file.push(name, shape, F32, floats(seed, shape.iter().product()));
        }
        file
    }

    /// Sets a key, in its old place if it is there.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        match self.keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.into(), value)),
        }
        self
    }

    /// Removes a key.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.keys.retain(|(known, _)| known != key);
        self
    }

    /// Adds a tensor of `[out, in]` shape.
    pub fn push(&mut self, name: &str, shape: &[usize], kind: u32, data: Vec<u8>) -> &mut Self {
        self.tensors.push(GgufTensor {
            name: name.into(),
            dims: shape.iter().rev().map(|&size| size as u64).collect(),
            kind,
            data,
            offset: None,
        });
        self
    }

    /// The tensor of this name.
    pub fn tensor(&mut self, name: &str) -> &mut GgufTensor {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.name == name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Where each part of the header ends: the interesting places to cut the file.
    pub fn boundaries(&self) -> Vec<usize> {
        self.write().1
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        self.write().0
    }

    fn write(&self) -> (Vec<u8>, Vec<usize>) {
        let mut out = self.magic.to_vec();
        let mut ends = vec![0, out.len()];
        out.extend(self.version.to_le_bytes());
        ends.push(out.len());
        let tensors = self.tensor_count.unwrap_or(self.tensors.len() as u64);
        let keys = self.key_count.unwrap_or(self.keys.len() as u64);
        out.extend(tensors.to_le_bytes());
        ends.push(out.len());
        out.extend(keys.to_le_bytes());
        ends.push(out.len());
        for (key, value) in &self.keys {
            text(&mut out, key);
            ends.push(out.len());
            value.write(&mut out);
            ends.push(out.len());
        }
        let mut next = 0;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            ends.push(out.len());
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                out.extend(dim.to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            ends.push(out.len());
            next += tensor.data.len().next_multiple_of(self.alignment) as u64;
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            ends.push(out.len());
            out.extend(&tensor.data);
            ends.push(out.len());
        }
        (out, ends)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let kind: u32 = match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::I32s(_) => 9,
            Self::Raw(kind, _) => *kind,
        };
        out.extend(kind.to_le_bytes());
        match self {
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::Text(x) => text(out, x),
            Self::Texts(values) => {
                out.extend(8u32.to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|x| text(out, x));
            }
            Self::I32s(values) => {
                out.extend(5u32.to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::Raw(_, bytes) => out.extend(bytes),
        }
    }
}

/// A safetensors file from its JSON header and its data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// A tensor of a safetensors file: name, dtype, shape, bytes.
pub type Tensor = (&'static str, &'static str, &'static [usize], Vec<u8>);

/// A safetensors file of these tensors.
pub fn safetensors_of(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(bytes);
        header.insert(
            (*name).into(),
            serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = serde_json::Value::Object(header).to_string();
    safetensors(&header, &data)
}

/// [`TINY`] as a list for [`safetensors_of`].
pub fn tiny_tensors() -> Vec<Tensor> {
    TINY.iter()
        .enumerate()
        .map(|(seed, (_, name, shape))| {
            (*name, "F32", *shape, floats(seed, shape.iter().product()))
        })
        .collect()
}

/// The `config.json` of [`TINY`], with changes: a null removes the key.
pub fn tiny_config(changes: serde_json::Value) -> String {
    let mut config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
        "vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2,
        "attention_bias": false, "mlp_bias": false, "rope_scaling": null,
    });
    let object = config.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            object.remove(key);
        } else {
            object.insert(key.clone(), value.clone());
        }
    }
    config.to_string()
}

/// Writes down what a reader hands over.
#[derive(Default)]
pub struct Recorder {
    pub header: Option<GgufHeader>,
    pub tensors: Vec<(TensorInfo, Vec<u8>)>,
}

impl TensorSink for Recorder {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> Result<()> {
        assert_eq!(
            data.as_ptr() as usize % 4,
            0,
            "{} is not aligned",
            info.name
        );
        self.tensors.push((info.clone(), data.to_vec()));
        Ok(())
    }
}

impl GgufSink for Recorder {
    fn header(&mut self, header: GgufHeader) -> Result<()> {
        assert!(self.header.is_none() && self.tensors.is_empty());
        self.header = Some(header);
        Ok(())
    }
}

/// Reads a whole GGUF file in chunks of `chunk` bytes.
pub fn read_gguf(bytes: &[u8], chunk: usize) -> Result<Recorder> {
    let mut recorder = Recorder::default();
    let mut reader = GgufReader::new();
    for piece in bytes.chunks(chunk) {
        reader.feed(piece, &mut recorder)?;
    }
    reader.finish()?;
    Ok(recorder)
}
