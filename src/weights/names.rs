//! How a format spells the names of tensors.

use super::{LayerPart, TensorRole};

/// One format's spelling.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) token_embedding: &'static str,
    pub(super) output_norm: &'static str,
    pub(super) output: &'static str,
    /// What stands before a block's index.
    pub(super) layers: &'static str,
    /// What stands behind it, in the order of [`LayerPart::ALL`].
    pub(super) parts: [&'static str; LayerPart::ALL.len()],
}

impl Names {
    /// What the tensor of this name is to a model, if anything.
    pub(super) fn role_of(&self, name: &str) -> Option<TensorRole> {
        if name == self.token_embedding {
            Some(TensorRole::TokenEmbedding)
        } else if name == self.output_norm {
            Some(TensorRole::OutputNorm)
        } else if name == self.output {
            Some(TensorRole::Output)
        } else {
            let (index, part) = name.strip_prefix(self.layers)?.split_once('.')?;
            // "+1" and "01" parse as numbers but name no tensor.
            if index.len() > 1 && index.starts_with('0') {
                return None;
            }
            if !index.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            let index = index.parse().ok()?;
            let place = self.parts.iter().position(|known| *known == part)?;
            let part = LayerPart::ALL[place];
            Some(TensorRole::Layer { index, part })
        }
    }

    /// The name of the tensor that is this to a model.
    pub(super) fn name_of(&self, role: TensorRole) -> String {
        match role {
            TensorRole::TokenEmbedding => self.token_embedding.into(),
            TensorRole::OutputNorm => self.output_norm.into(),
            TensorRole::Output => self.output.into(),
            TensorRole::Layer { index, part } => {
                format!("{}{index}.{}", self.layers, self.parts[part as usize])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{gguf, safetensors};

    #[test]
    fn names_are_read_as_they_are_written() {
        for names in [&gguf::NAMES, &safetensors::NAMES] {
            let ends = [
                TensorRole::TokenEmbedding,
                TensorRole::OutputNorm,
                TensorRole::Output,
            ];
            let layers = [0, 7, 10, 123]
                .into_iter()
                .flat_map(|index| LayerPart::ALL.map(|part| TensorRole::Layer { index, part }));
            for role in ends.into_iter().chain(layers) {
                let name = names.name_of(role);
                assert_eq!(names.role_of(&name), Some(role), "{name}");
            }
        }
        let up = |index| TensorRole::Layer {
            index,
            part: LayerPart::Up,
        };
        assert_eq!(gguf::NAMES.name_of(up(12)), "blk.12.ffn_up.weight");
        let up_3 = "model.layers.3.mlp.up_proj.weight";
        assert_eq!(safetensors::NAMES.name_of(up(3)), up_3);
    }

    #[test]
    fn what_only_looks_like_a_name_is_none() {
        for name in [
            "",
            "blk.",
            "blk.3",
            "blk..ffn_up.weight",
            "blk.01.ffn_up.weight",
            "blk.+1.ffn_up.weight",
            "blk.-1.ffn_up.weight",
            "blk.99999999999999999999.ffn_up.weight",
            "blk.1.ffn_up.bias",
            "blk.1.ffn_up.weight2",
            "output.weights",
            "model.layers.1.mlp.up_proj.weight",
        ] {
            assert_eq!(gguf::NAMES.role_of(name), None, "{name}");
        }
    }
}
