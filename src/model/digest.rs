//! What a model is, in 32 bytes: whatever it has computed serves only a model of the same digest.

use super::Model;
use crate::int4::Linear;
use sha2::{Digest, Sha256};
use twox_hash::XxHash64;

/// Bytes of [`Model::digest`].
pub const DIGEST_BYTES: usize = 32;

impl Model {
    /// Config and weights, all of them, as they are computed with: SHA-256 over the matrices' XXH64. Looks at every weight
    /// the first time, and is remembered.
    pub fn digest(&self) -> &[u8; DIGEST_BYTES] {
        self.digest.get_or_init(|| {
            let mut digest = Sha256::new();
            digest.update(format!("{:?} {}", self.config, self.quantization));
            let mut matrix = |linear: &Linear| digest.update(linear.checksum().to_le_bytes());
            matrix(&self.embedding);
            self.head.iter().for_each(&mut matrix);
            for layer in &self.layers {
                matrix(&layer.attention.qkv);
                matrix(&layer.attention.out);
                matrix(&layer.mlp.gate_up);
                matrix(&layer.mlp.down);
            }
            let norms = self
                .layers
                .iter()
                .flat_map(|layer| [&layer.attention_norm, &layer.mlp_norm]);
            for norm in norms.chain([&self.norm]) {
                let weight = XxHash64::oneshot(0, bytemuck::cast_slice(&norm.weight));
                digest.update(weight.to_le_bytes());
            }
            digest.finalize().into()
        })
    }
}
