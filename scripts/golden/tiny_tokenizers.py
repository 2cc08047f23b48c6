"""Two tokenizers of 512 tokens, small enough to commit, in the pipelines of the large ones.

`smollm`: special tokens first (0, 1, 2 as in SmolLM), then the bytes but for the eight that SmolLM's vocabulary
lacks, then merges. `llama3`: all bytes, merges, then whole words that no merge leads to (found because
`ignore_merges` looks a word up first), and the special tokens last.
"""

from collections import Counter
from pathlib import Path

from . import bpe

TEXTS = Path(__file__).parent / "texts"
VOCAB = 512
TOKENLESS_BYTES = bytes.fromhex("0406131416 1df1f2")
SMOLLM_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<|reserved_special_token_0|>"]
LLAMA3_WORDS = ["Ġbicycle", "Ġphotosynthesis", "Ġthousand", "Hello", "!!!!", "ĠĠĠĠĠĠĠĠĠ", "999"]


def train(pretokenizer: dict, alphabet: list[str], count: int) -> list[tuple[str, str]]:
    """Plain byte-pair encoding of the texts: the most frequent pair first, ties in the order of code points."""
    import json

    from tokenizers import pre_tokenizers
    from tokenizers import Tokenizer, models

    holder = Tokenizer(models.BPE())
    holder.pre_tokenizer = pre_tokenizers.ByteLevel()
    content = json.loads(holder.to_str()) | {"pre_tokenizer": pretokenizer}
    split = Tokenizer.from_str(json.dumps(content)).pre_tokenizer.pre_tokenize_str
    words = Counter()
    for path in sorted(TEXTS.glob("*.txt")):
        words.update(word for word, _ in split(path.read_text(encoding="utf-8")))
    spelled = {word: [c for c in word if c in alphabet] for word in words}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, parts in spelled.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = {word: _merge(parts, best) for word, parts in spelled.items()}
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def smollm() -> dict:
    alphabet = [c for b, c in sorted(bpe.byte_to_char().items()) if b not in TOKENLESS_BYTES]
    merges = train(bpe.smollm_pretokenizer(), alphabet, VOCAB - len(SMOLLM_SPECIAL) - len(alphabet))
    tokens = SMOLLM_SPECIAL + alphabet + ["".join(pair) for pair in merges]
    return _content(tokens, merges, [0, 1, 2], "smollm")


def llama3() -> dict:
    alphabet = [c for _, c in sorted(bpe.byte_to_char().items())]
    extra = LLAMA3_WORDS + LLAMA3_SPECIAL
    merges = train(bpe.llama3_pretokenizer(), alphabet, VOCAB - len(extra) - len(alphabet))
    tokens = alphabet + ["".join(pair) for pair in merges] + extra
    return _content(tokens, merges, list(range(VOCAB - len(LLAMA3_SPECIAL), VOCAB)), "llama3")


def _content(tokens: list[str], merges: list[tuple[str, str]], special: list[int], family: str) -> dict:
    assert len(tokens) == len(set(tokens)) == VOCAB, [t for t, n in Counter(tokens).items() if n > 1]
    return bpe.tokenizer_json(tokens, [" ".join(pair) for pair in merges], special, family)
