"""Seeded models of a hundred thousand weights, as Hugging Face directories and as GGUF, with what
transformers computes for them in float32.

The weights are large enough that every part shows: leaving out RoPE in a layer, or putting it where it does not
belong, moves logits by whole units.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import gguf_export, tiny_tokenizers

VOCAB = tiny_tokenizers.VOCAB
PROMPTS = {"long": 48, "short": 7}
GREEDY = 32
BF16_OF = {"llama-tied-bf16": "llama-tied"}


@dataclass(frozen=True)
class Spec:
    """`seed` is one for which greedy decoding is lively and never close: see `_check_greedy`."""

    seed: int
    template: str
    config: dict
    shards: int = 1
    bf16: bool = False  # weights rounded to bf16, so that the bf16 copy holds the same model


# The spelling of config.json differs on purpose: the hub's SmolLM2 files, transformers 5, the hub's SmolLM3 file.
SPECS = {
    "llama-tied": Spec(
        seed=4,
        template="smollm2-instruct",
        bf16=True,
        config={
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 64,
            "initializer_range": 0.041666666666666664,
            "intermediate_size": 192,
            "is_llama_config": True,
            "max_position_embeddings": 512,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "pad_token_id": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "transformers_version": "4.42.3",
            "use_cache": True,
            "vocab_size": VOCAB,
        },
    ),
    "llama-untied": Spec(
        seed=13,
        template="smollm-135m-instruct",
        config={
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "dtype": "float32",
            "eos_token_id": [2, 0],
            "head_dim": 32,
            "hidden_act": "silu",
            "hidden_size": 64,
            "initializer_range": 0.02,
            "intermediate_size": 128,
            "max_position_embeddings": 512,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "pad_token_id": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-06,
            "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
            "tie_word_embeddings": False,
            "transformers_version": "5.23.0",
            "use_cache": True,
            "vocab_size": VOCAB,
        },
    ),
    "smollm3": Spec(
        seed=10,
        template="smollm3-3b",
        shards=2,
        config={
            "architectures": ["SmolLM3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 64,
            "initializer_range": 0.02,
            "intermediate_size": 128,
            "layer_types": ["full_attention"] * 4,
            "max_position_embeddings": 1024,
            "max_window_layers": 4,
            "mlp_bias": False,
            "model_type": "smollm3",
            "no_rope_layer_interval": 4,
            "no_rope_layers": [1, 1, 1, 0],
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "num_key_value_heads": 2,
            "pad_token_id": 2,
            "pretraining_tp": 2,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "transformers_version": "4.54.0.dev0",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": VOCAB,
        },
    ),
}


def weights(spec: Spec) -> dict[str, np.ndarray]:
    """Hugging Face tensor names to seeded float32 weights: matrices (out, in), norms (hidden,)."""
    # RandomState, because its stream is frozen across numpy's versions.
    rng = np.random.RandomState(spec.seed)
    c = spec.config
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    head = c.get("head_dim", hidden // heads)
    tensors = {}

    def matrix(name: str, rows: int, columns: int, gain: float) -> None:
        tensors[name] = rng.standard_normal((rows, columns)) * gain / columns**0.5

    def norm(name: str) -> None:
        tensors[name] = 1.0 + 0.2 * rng.standard_normal(hidden)

    tensors["model.embed_tokens.weight"] = rng.standard_normal((VOCAB, hidden)) * 0.3
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        norm(at + "input_layernorm.weight")
        matrix(at + "self_attn.q_proj.weight", heads * head, hidden, 1.6)
        matrix(at + "self_attn.k_proj.weight", kv_heads * head, hidden, 1.6)
        matrix(at + "self_attn.v_proj.weight", kv_heads * head, hidden, 1.0)
        matrix(at + "self_attn.o_proj.weight", hidden, heads * head, 1.0)
        norm(at + "post_attention_layernorm.weight")
        matrix(at + "mlp.gate_proj.weight", inner, hidden, 1.5)
        matrix(at + "mlp.up_proj.weight", inner, hidden, 1.0)
        matrix(at + "mlp.down_proj.weight", hidden, inner, 1.0)
    norm("model.norm.weight")
    if not c["tie_word_embeddings"]:
        matrix("lm_head.weight", VOCAB, hidden, 2.4)
    tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
    return {name: _round_to_bf16(value) for name, value in tensors.items()} if spec.bf16 else tensors


def _round_to_bf16(value: np.ndarray) -> np.ndarray:
    import torch

    return torch.from_numpy(value).to(torch.bfloat16).to(torch.float32).numpy()


def write_models(folder: Path, templates: Path) -> None:
    """Every model as a directory `folder/<name>/` and, the bf16 copy apart, a file `folder/<name>.gguf`."""
    tokenizer = tiny_tokenizers.smollm()
    for name, spec in SPECS.items():
        template = (templates / f"{spec.template}.jinja").read_text(encoding="utf-8")
        tensors = weights(spec)
        _write_directory(folder / name, spec.config, tokenizer, template)
        _write_safetensors(folder / name, tensors, spec.shards)
        gguf_export.write(folder / f"{name}.gguf", name, spec.config, tensors, tokenizer, template)
    for name, source in BF16_OF.items():
        spec = SPECS[source]
        template = (templates / f"{spec.template}.jinja").read_text(encoding="utf-8")
        _write_directory(folder / name, spec.config | {"torch_dtype": "bfloat16"}, tokenizer, template)
        _write_safetensors(folder / name, weights(spec), 1, bf16=True)


def _write_directory(folder: Path, config: dict, tokenizer: dict, template: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    eos = config["eos_token_id"]
    special = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    files = {
        "config.json": config,
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": 1,
            "eos_token_id": eos,
            "pad_token_id": 2,
            "transformers_version": config["transformers_version"],
        },
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": special,
            "bos_token": "<|im_start|>",
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "model_max_length": config["max_position_embeddings"],
            "pad_token": "<|im_end|>",
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": "<|endoftext|>",
            "vocab_size": VOCAB,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _write_safetensors(folder: Path, tensors: dict[str, np.ndarray], shards: int, bf16: bool = False) -> None:
    import torch
    from safetensors.torch import save_file

    dtype = torch.bfloat16 if bf16 else torch.float32
    converted = {name: torch.from_numpy(value).to(dtype) for name, value in tensors.items()}
    if shards == 1:
        save_file(converted, folder / "model.safetensors", metadata={"format": "pt"})
        return
    # Cut in the middle of a layer, as the hub's files do.
    names = list(converted)
    size = -(-len(names) // shards)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard * size : (shard + 1) * size]
        save_file({name: converted[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in part}
    index = {
        "metadata": {"total_size": sum(t.numel() * t.element_size() for t in converted.values())},
        "weight_map": dict(sorted(weight_map.items())),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="ascii")


def prompts(spec: Spec) -> dict[str, list[int]]:
    """Uniform ids over the whole vocabulary but for the special tokens."""
    rng = np.random.RandomState(spec.seed + 1000)
    return {name: rng.randint(3, VOCAB, size=length).tolist() for name, length in PROMPTS.items()}


def reference(folder: Path, spec: Spec) -> tuple[dict, dict[str, np.ndarray]]:
    """What transformers computes from the files in `folder`: (ids and greedy tokens, activations and logits)."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(_module, _inputs, output) -> None:
            kept[name] = (output[0] if isinstance(output, tuple) else output).squeeze(0)

        return hook

    model.model.embed_tokens.register_forward_hook(keep("embed"))
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_hook(keep(f"layers.{i}"))
    model.model.norm.register_forward_hook(keep("norm"))

    facts, arrays = {}, {}
    with torch.no_grad():
        for name, ids in prompts(spec).items():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
            arrays |= {f"{name}.{key}": value.numpy().copy() for key, value in kept.items()}
            arrays[f"{name}.logits"] = logits.numpy().copy()
            greedy, margins = [], []
            for _ in range(GREEDY):
                # Without a cache on purpose: generation from scratch is what a cache has to equal.
                last = model(torch.tensor([ids + greedy]), use_cache=False).logits[0, -1]
                first, second = torch.topk(last, 2).values.tolist()
                greedy.append(int(last.argmax()))
                margins.append(first - second)
            facts[name] = {"ids": ids, "greedy": greedy, "greedy_margins": [round(m, 5) for m in margins]}
    return facts, arrays


def greedy_is_lively(facts: dict) -> bool:
    """No end token, no near tie (float error is about 1e-5), and no falling into a loop at once."""
    return all(
        min(f["greedy"]) > 2 and min(f["greedy_margins"]) > 0.02 and len(set(f["greedy"])) >= 16 for f in facts.values()
    )


def write_references(folder: Path, models: Path) -> None:
    """`folder/<name>.json` and `folder/<name>.safetensors` for every model under `models`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in SPECS.items():
        facts, arrays = reference(models / name, spec)
        assert greedy_is_lively(facts), (name, facts)
        content = {"model": name, "prompts": facts}
        (folder / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="ascii")
        save_file(arrays, folder / f"{name}.safetensors")
