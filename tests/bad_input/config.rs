//! `config.json`.

use crate::files::tiny_config;
use crate::{assert_no_absurd_allocation, expect};
use serde_json::json;
use smollm_web::config::ModelConfig;

#[test]
fn a_config_that_cannot_be_run_names_its_key() {
    let cases = [
        (
            "not_a_model",
            json!({"hidden_size": null}),
            "no hidden_size",
        ),
        (
            "not_a_model",
            json!({"hidden_size": "32"}),
            "hidden_size: expected a count",
        ),
        ("not_a_model", json!({"hidden_size": 0}), "hidden_size"),
        ("not_a_model", json!({"hidden_size": -32}), "hidden_size"),
        (
            "not_a_model",
            json!({"hidden_size": 1u64 << 60}),
            "hidden_size: 1152921504606846976",
        ),
        (
            "not_a_model",
            json!({"num_hidden_layers": 1u64 << 60}),
            "num_hidden_layers",
        ),
        (
            "not_a_model",
            json!({"vocab_size": 1u64 << 40}),
            "vocab_size",
        ),
        (
            "not_a_model",
            json!({"hidden_size": 16384, "intermediate_size": 65536, "num_hidden_layers": 512,
                "head_dim": 256, "num_attention_heads": 64}),
            "parameters",
        ),
        (
            "not_a_model",
            json!({"num_attention_heads": 3}),
            "num_attention_heads: 3 heads",
        ),
        (
            "not_a_model",
            json!({"num_attention_heads": 0}),
            "num_attention_heads",
        ),
        (
            "not_a_model",
            json!({"num_key_value_heads": 0}),
            "num_key_value_heads",
        ),
        ("not_a_model", json!({"head_dim": 15}), "head_dim: 15"),
        ("not_a_model", json!({"head_dim": 512}), "head_dim: 512"),
        ("not_a_model", json!({"rms_norm_eps": 0.0}), "rms_norm_eps"),
        ("not_a_model", json!({"rope_theta": -1.0}), "rope_theta"),
        ("not_a_model", json!({"eos_token_id": 8}), "eos_token_id: 8"),
        (
            "not_a_model",
            json!({"eos_token_id": "</s>"}),
            "eos_token_id",
        ),
        (
            "not_a_model",
            json!({"eos_token_id": [2, -1]}),
            "eos_token_id",
        ),
        (
            "not_a_model",
            json!({"max_position_embeddings": 0}),
            "max_position_embeddings",
        ),
        (
            "unsupported_architecture",
            json!({"architectures": ["Qwen2ForCausalLM"]}),
            "Qwen2ForCausalLM",
        ),
        (
            "unsupported_architecture",
            json!({"architectures": null, "model_type": "gemma"}),
            "\"gemma\"",
        ),
        (
            "unsupported_architecture",
            json!({"hidden_act": "gelu"}),
            "hidden_act \"gelu\"",
        ),
        (
            "unsupported_architecture",
            json!({"attention_bias": true}),
            "attention_bias",
        ),
        (
            "unsupported_architecture",
            json!({"mlp_bias": true}),
            "mlp_bias",
        ),
        (
            "unsupported_architecture",
            json!({"use_sliding_window": true}),
            "use_sliding_window",
        ),
        (
            "unsupported_architecture",
            json!({"intermediate_size": 72}),
            "intermediate_size: 72",
        ),
        (
            "unsupported_architecture",
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
            "rope_scaling: scaled rope (\"linear\")",
        ),
        (
            "unsupported_architecture",
            json!({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}),
            "rope_parameters: scaled rope (\"llama3\")",
        ),
        (
            "unsupported_quantization",
            json!({"quantization_config": {"quant_method": "awq"}}),
            "awq",
        ),
    ];
    for (code, changes, needle) in cases {
        let config = ModelConfig::from_json(&tiny_config(changes.clone()));
        expect(&changes.to_string(), config, code, &["config.json", needle]);
    }
    for (text, needle) in [("", "JSON"), ("[]", "object"), ("<html>", "JSON")] {
        expect(
            text,
            ModelConfig::from_json(text),
            "not_a_model",
            &["config.json", needle],
        );
    }
    let smollm3 = |changes: serde_json::Value| {
        let mut all = json!({"architectures": ["SmolLM3ForCausalLM"]});
        all.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        ModelConfig::from_json(&tiny_config(all))
    };
    for (changes, needle) in [
        (
            json!({"no_rope_layers": [1, 1]}),
            "no_rope_layers: 2 entries for 1 layers",
        ),
        (json!({"no_rope_layers": [2]}), "no_rope_layers"),
        (
            json!({"no_rope_layer_interval": 0}),
            "no_rope_layer_interval",
        ),
    ] {
        expect(
            &changes.to_string(),
            smollm3(changes.clone()),
            "not_a_model",
            &[needle],
        );
    }
    assert_no_absurd_allocation();
}
