"""Reference tokenizers, built with Hugging Face `tokenizers` out of a GGUF file's vocabulary and merges.

The pipelines are those of the models' own tokenizer.json files:

* SmolLM, SmolLM2 (`tokenizer.ggml.pre = smollm`): every number character alone, then byte-level with the
  GPT-2 pattern, no prefix space; BPE without an unknown token, so a byte that has no token vanishes.
* Llama 3, SmolLM3 (`llama-bpe`, `smaug-bpe`): the Llama-3 pattern, byte-level without a pattern of its own,
  BPE that takes a whole word when the vocabulary has it (`ignore_merges`).
"""

import codecs
import json
from pathlib import Path

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL_TYPE = 3  # gguf.TokenType.CONTROL


def smollm_pretokenizer() -> dict:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        ],
    }


def llama3_pretokenizer() -> dict:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ],
    }


def tokenizer_json(tokens: list[str], merges: list[str], special_ids: list[int], family: str) -> dict:
    """The content of a tokenizer.json; `family` is "smollm" or "llama3"."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": tokens[i],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i in special_ids
        ],
        "normalizer": None,
        "pre_tokenizer": smollm_pretokenizer() if family == "smollm" else llama3_pretokenizer(),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family == "llama3",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def tokenizer_json_from_gguf(path: Path) -> dict:
    """A tokenizer.json from the metadata of a GGUF file; tokens of type CONTROL are its special tokens."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    pre = fields["tokenizer.ggml.pre"].contents()
    return tokenizer_json(
        tokens,
        fields["tokenizer.ggml.merges"].contents(),
        [i for i, kind in enumerate(types) if kind == CONTROL_TYPE],
        {"smollm": "smollm", "llama-bpe": "llama3", "smaug-bpe": "llama3"}[pre],
    )


def byte_to_char() -> dict[int, str]:
    """GPT-2's table of printable stand-ins for bytes (openai/gpt-2, encoder.py, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in printable}
    hidden = [b for b in range(256) if b not in table]
    return table | {b: chr(256 + i) for i, b in enumerate(hidden)}


class ReferenceTokenizer:
    """Two `tokenizers` pipelines over one vocabulary: with the special tokens recognised in text, and without."""

    def __init__(self, content: dict):
        from tokenizers import Tokenizer

        self._special = Tokenizer.from_str(json.dumps(content))
        # Without added tokens nothing but the BPE can make an id, and the BPE cannot make a special one.
        self._plain = Tokenizer.from_str(json.dumps(content | {"added_tokens": []}))
        self._char_to_byte = {c: b for b, c in byte_to_char().items()}
        self.tokens = list(content["model"]["vocab"])
        self.special_ids = {t["id"]: t["content"] for t in content["added_tokens"]}

    def plain(self, text: str) -> list[int]:
        ids = self._plain.encode(text, add_special_tokens=False).ids
        assert not set(ids) & set(self.special_ids), (text, ids)
        return ids

    def special(self, text: str) -> list[int]:
        return self._special.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self._special.decode(ids, skip_special_tokens=False)

    def token_bytes(self, token: int) -> bytes:
        if token in self.special_ids:
            return self.special_ids[token].encode()
        return bytes(self._char_to_byte[c] for c in self.tokens[token])

    def stream(self, ids: list[int]) -> tuple[list[str], str]:
        """What is whole after each id, and what the end flushes: Python's incremental UTF-8 decoder."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(self.token_bytes(i)) for i in ids]
        return pieces, decoder.decode(b"", final=True)
