"""Strings to ids, ids to text, and ids to text one at a time."""

import random
from pathlib import Path

from . import corpus
from .bpe import ReferenceTokenizer


def row(tokenizer: ReferenceTokenizer, text: str) -> dict:
    plain, special = tokenizer.plain(text), tokenizer.special(text)
    decoded = tokenizer.decode(plain)
    assert decoded == tokenizer.decode(special), text
    return {"text": text, "ids_plain": plain, "ids_special": special, "decoded": decoded}


def smollm_rows(tokenizer: ReferenceTokenizer) -> list[dict]:
    rows = [row(tokenizer, text) for text in corpus.all_strings()]
    for r in rows:
        whole = all(ord(c) < 0x80 for c in r["text"]) and not set(r["text"]) & set("\x04\x06\x13\x14\x16\x1d")
        assert not whole or r["decoded"] == r["text"], r
    return rows


def llama3_rows(tokenizer: ReferenceTokenizer) -> list[dict]:
    """The shorter list, the Llama-3 cases, and words that merging alone cannot reach (`ignore_merges`)."""
    texts = list(dict.fromkeys(corpus.short_strings() + corpus.LLAMA3 + _unreachable_words(tokenizer, 12)))
    rows = [row(tokenizer, text) for text in texts]
    assert all(r["decoded"] == r["text"] for r in rows)
    return rows


def _unreachable_words(tokenizer: ReferenceTokenizer, count: int) -> list[str]:
    """Vocabulary entries that are one id only because the whole word is looked up before merging."""
    import json

    from tokenizers import Tokenizer

    content = json.loads(tokenizer._plain.to_str())
    content["model"]["ignore_merges"] = False
    merging = Tokenizer.from_str(json.dumps(content))
    found = []
    for token in range(len(tokenizer.tokens)):
        if token in tokenizer.special_ids or len(found) == count:
            continue
        text = tokenizer.token_bytes(token).decode("utf-8", "ignore")
        if text and tokenizer.plain(text) == [token] != merging.encode(text).ids:
            found.append(text)
    return found


def check_llama3(tokenizer: ReferenceTokenizer, inputs: Path, outputs: Path) -> None:
    """The reference pipeline gives llama.cpp's own published ids on llama.cpp's own strings."""
    texts = inputs.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = outputs.read_text().split("\n")
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.plain(text) == [int(i) for i in line.split()], text


def stream_rows(tokenizer: ReferenceTokenizer) -> list[dict]:
    """Id sequences that cut characters apart: whole ones, cut-off ones, and ones that are not UTF-8 at all."""
    rng = random.Random(22)
    sequences = []
    for text in corpus.SPLIT_CHARACTERS:
        ids = tokenizer.plain(text)
        sequences.append(ids)
        if len(ids) > 2 and rng.random() < 0.4:
            sequences.append(ids[:-1])
            sequences.append(ids[1:])
    lead = [t for t in range(len(tokenizer.tokens)) if len(b := tokenizer.token_bytes(t)) == 1 and b[0] >= 0x80]
    for _ in range(12):
        ids = [rng.choice(lead) for _ in range(rng.randint(2, 6))]
        ids.insert(rng.randint(0, len(ids)), rng.choice(tokenizer.plain("Hello world, 🙂 <|im_end|>")))
        sequences.append(ids)
    # A special token in the middle of a character: what is pending becomes U+FFFD, then the token's own text.
    sequences.append([*tokenizer.plain("🙂")[:1], 2, *tokenizer.plain("ok")])
    rows = []
    for ids in sequences:
        pieces, rest = tokenizer.stream(ids)
        text = "".join(pieces) + rest
        assert text == tokenizer.decode(ids), ids
        rows.append({"ids": ids, "pieces": pieces, "flush": rest, "text": text})
    return rows
