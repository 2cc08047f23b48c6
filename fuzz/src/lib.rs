//! What the fuzz targets share: chunks, a limit on memory, a tiny model, seeds for all of them.

pub mod memory;
pub mod seeds;

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use smollm_web::ModelConfig;
use smollm_web::weights::{PackedInfo, TensorInfo, TensorSink};

/// One layer, and a vocabulary of 64: what a reader asks a file for, in some ten thousand bytes.
pub const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_act":"silu",
"hidden_size":32,"intermediate_size":32,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,
"max_position_embeddings":64,"rms_norm_eps":1e-5,"rope_theta":10000,"rope_scaling":null,
"tie_word_embeddings":true,"torch_dtype":"float32","vocab_size":64}"#;

/// The config of [`CONFIG`].
pub fn config() -> ModelConfig {
    ModelConfig::from_json(CONFIG).expect("the config is good")
}

/// Cuts `data` into chunks; the last byte of the input says how.
pub fn chunks(data: &[u8], how: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    let mut state = u32::from(how);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A small linear congruential generator (Numerical Recipes): long chunks and short, some of them empty.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = match state >> 30 {
            0 => (state >> 16) & 3,
            1 => (state >> 16) & 0xff,
            _ => state >> 14,
        };
        let (chunk, after) = rest.split_at(rest.len().min(size as usize));
        rest = after;
        Some(chunk)
    })
}

/// Remembers what a reader handed on, so that two readings can be compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    tensors: Vec<(String, u64)>,
}

impl TensorSink for Seen {
    fn tensor(&mut self, info: &TensorInfo, data: &[u8]) -> smollm_web::Result<()> {
        let elements: usize = info.shape.iter().product();
        let blocks = elements / info.dtype.block_size();
        assert_eq!(data.len(), blocks * info.dtype.type_size(), "{}", info.name);
        assert_eq!(data.as_ptr() as usize % 4, 0, "{}", info.name);
        let mut hash = DefaultHasher::new();
        hash.write(data);
        self.tensors.push((info.name.clone(), hash.finish()));
        Ok(())
    }

    fn packed(
        &mut self,
        info: &PackedInfo,
        matrix: smollm_web::int4::PackedMatrix,
    ) -> smollm_web::Result<()> {
        assert_eq!((matrix.rows(), matrix.cols()), info.shape, "{}", info.name);
        let mut hash = DefaultHasher::new();
        let mut row = vec![0.0; matrix.cols()];
        for index in 0..matrix.rows() {
            matrix.dequantize_row(index, &mut row);
            row.iter().for_each(|x| hash.write_u32(x.to_bits()));
        }
        self.tensors.push((info.name.clone(), hash.finish()));
        Ok(())
    }
}

/// What comes of a reading: what was seen, and the error's text.
pub type Outcome = (Seen, Result<(), String>);

/// An error as text.
pub fn text(result: smollm_web::Result<()>) -> Result<(), String> {
    result.map_err(|e| e.to_string())
}
