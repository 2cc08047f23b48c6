"""What float32 transformers says with the weights of the real GGUF file, dequantized."""

import json
from pathlib import Path

import numpy as np

from . import gguf_export, templates
from .bpe import ReferenceTokenizer

TEXTS = Path(__file__).parent / "texts"
CHUNK = 512
CHUNKS = 9
GREEDY = 48
SEPARATOR = 0  # <|endoftext|>

QUESTIONS = [
    [("user", "What is the capital of France?")],
    [("user", "Write a short poem about AI.")],
    [("user", "List three benefits of regular exercise, numbered.")],
    [("user", "Explain machine learning in one sentence.")],
    [("user", "Hi, my name is Alice.")],
    [
        ("user", "Hi, my name is Alice."),
        ("assistant", "Hello Alice! How can I help you today?"),
        ("user", "What's my name?"),
    ],
    [("system", "You are a pirate. Answer like one."), ("user", "Where is the treasure?")],
    [("user", "Write a Python function that adds two numbers.")],
    [("user", "Translate to French: Good morning, how are you?")],
    [("user", "What does <|im_end|> mean? Also: 12 * 12 = ?")],
]


def load(path: Path):
    """The GGUF as a `LlamaForCausalLM` in float32."""
    import gguf
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(path)

    def field(name: str):
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=field("llama.vocab_size"),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
        pad_token_id=field("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    dequantized = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    state = {}
    for name in model.state_dict():
        if name == "lm_head.weight":
            continue  # tied: the file has none
        value = dequantized.pop(gguf_export.gguf_name(name))
        if name.endswith("q_proj.weight"):
            value = gguf_export.unpermute(value, heads)
        elif name.endswith("k_proj.weight"):
            value = gguf_export.unpermute(value, kv_heads)
        state[name] = torch.from_numpy(np.ascontiguousarray(value))
    assert not dequantized, f"tensors left over: {sorted(dequantized)}"
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected, (missing, unexpected)
    model.tie_weights()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    return model


def chat_ids(template: str, messages: list[dict], tokenizer: ReferenceTokenizer, generate: bool) -> list[int]:
    case = {"messages": messages, "add_generation_prompt": generate}
    return templates.ids(templates.segments(template, case), tokenizer)


def scored_ids(template: str, tokenizer: ReferenceTokenizer) -> np.ndarray:
    """The texts, each followed by a separator, then the chats; cut into chunks: (CHUNKS, CHUNK)."""
    ids = []
    for path in sorted(TEXTS.glob("*.txt")):
        ids += [*tokenizer.plain(path.read_text(encoding="utf-8")), SEPARATOR]
    for messages in json.loads((TEXTS / "chats.json").read_text(encoding="utf-8")):
        ids += chat_ids(template, messages, tokenizer, generate=False)
    assert CHUNK * CHUNKS <= len(ids) < CHUNK * (CHUNKS + 1), len(ids)
    # The last chunk takes the end, so that the chats are all in.
    starts = [CHUNK * i for i in range(CHUNKS - 1)] + [len(ids) - CHUNK]
    return np.array([ids[start : start + CHUNK] for start in starts])


def score(model, ids: np.ndarray) -> tuple[dict, dict[str, np.ndarray]]:
    """Every chunk by itself, from an empty context."""
    import torch

    logprobs = np.full(ids.shape, np.nan, np.float32)
    margins = np.zeros(ids.shape, np.float32)
    argmax = np.zeros(ids.shape, np.int64)
    with torch.no_grad():
        for i, chunk in enumerate(torch.from_numpy(ids)):
            # Log-softmax in float64: its own rounding should not be in a reference.
            rows = torch.log_softmax(model(chunk[None], use_cache=False).logits[0].double(), dim=-1)
            best = rows.topk(2, dim=-1)
            argmax[i] = best.indices[:, 0].numpy()
            margins[i] = (best.values[:, 0] - best.values[:, 1]).numpy()
            logprobs[i, 1:] = rows[:-1].gather(1, chunk[1:, None])[:, 0].numpy()
    mean = np.nanmean(logprobs.astype(np.float64))
    facts = {
        "chunks": ids.tolist(),
        "argmax": argmax.tolist(),
        "perplexity": round(float(np.exp(-mean)), 6),
        "perplexity_per_chunk": [round(float(np.exp(-np.nanmean(row.astype(np.float64)))), 6) for row in logprobs],
        "predicted_tokens": int(np.isfinite(logprobs).sum()),
    }
    return facts, {"logprobs": logprobs, "margins": margins}


def greedy(model, template: str, tokenizer: ReferenceTokenizer) -> list[dict]:
    """Up to GREEDY tokens for each of the questions, end token included when it comes."""
    import torch

    rows = []
    for question in QUESTIONS:
        messages = [{"role": role, "content": content} for role, content in question]
        prompt = chat_ids(template, messages, tokenizer, generate=True)
        ids, margins, cache, fresh = [], [], None, prompt
        with torch.no_grad():
            while len(ids) < GREEDY and not (ids and ids[-1] in (0, 2)):
                output = model(torch.tensor([fresh]), past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                logprobs = torch.log_softmax(output.logits[0, -1].double(), dim=-1)
                first, second = logprobs.topk(2).values.tolist()
                fresh = [int(logprobs.argmax())]
                ids += fresh
                margins.append(round(first - second, 6))
        stopped = ids[-1] in (0, 2)
        rows.append(
            {
                "messages": messages,
                "prompt_ids": prompt,
                "ids": ids,
                "margins": margins,
                "finish_reason": "stop" if stopped else "length",
                "text": tokenizer.decode(ids[:-1] if stopped else ids),
            }
        )
    return rows


def write_references(folder: Path, gguf_file: Path, template: str, tokenizer: ReferenceTokenizer) -> None:
    from safetensors.numpy import save_file

    model = load(gguf_file)
    facts, arrays = score(model, scored_ids(template, tokenizer))
    assert 8 < facts["perplexity"] < 20, facts["perplexity"]
    (folder / "real-logprobs.json").write_text(json.dumps(facts) + "\n", encoding="ascii")
    save_file(arrays, folder / "real-logprobs.safetensors")
    answers = greedy(model, template, tokenizer)
    (folder / "real-greedy.json").write_text(
        "[\n" + ",\n".join(json.dumps(answer) for answer in answers) + "\n]\n", encoding="ascii"
    )
    print(f"real model: perplexity {facts['perplexity']} over {facts['predicted_tokens']} tokens")
