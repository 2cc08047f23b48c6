"""How the reference cuts words: its classes of characters, and random texts in pieces."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

from .bpe import LLAMA3_PATTERN

SCALARS = [*range(0xD800), *range(0xE000, 0x110000)]

CUTTERS = {
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}


def write_classes(path: Path) -> None:
    """The Rust tables of letters and numbers: every scalar value tried against the reference's engine."""
    letters, numbers = (list(_bounds(_members(pattern))) for pattern in (r"\p{L}", r"\p{N}"))
    path.write_text(
        "//! `\\p{L}` and `\\p{N}` as the regex engine of the reference has them (Unicode 16).\n"
        "//!\n"
        "//! Written by `scripts/make-golden.py --only words`, then `cargo fmt`: each two entries are the\n"
        "//! first code point of a range and the one after its last.\n\n"
        + _table("LETTERS", letters)
        + "\n"
        + _table("NUMBERS", numbers),
        encoding="ascii",
    )
    print(f"{path}: {len(letters) // 2} ranges of letters, {len(numbers) // 2} of numbers")


def _members(pattern: str) -> Iterator[int]:
    matches = pre_tokenizers.Split(Regex(pattern), "removed")
    for start in range(0, len(SCALARS), 0x1000):
        scalars = SCALARS[start : start + 0x1000]
        text = "".join(map(chr, scalars))
        left = {i for _, (a, b) in matches.pre_tokenize_str(text) for i in range(a, b)}
        yield from (scalar for i, scalar in enumerate(scalars) if i not in left)


def _bounds(members: Iterator[int]) -> Iterator[int]:
    end = None
    for member in members:
        if member != end:
            if end is not None:
                yield end
            yield member
        end = member + 1
    if end is not None:
        yield end


def _table(name: str, bounds: list[int]) -> str:
    return f"pub(super) static {name}: [u32; {len(bounds)}] = [{', '.join(map(hex, bounds))}];\n"


def rows() -> list[dict]:
    """Random texts with the numbers of bytes of their words, cut in both ways."""
    rng = random.Random(7)
    kinds: list[Callable[[], str]] = [
        lambda: rng.choice(" \n\r\t\u00a0\u0085\u2028\u3000\u000b\u001c\u200b\ufeff"),
        lambda: rng.choice(["'s", "'LL", "'rE", "'ve", "'\u017f", "'d", "'", "'x", "\u2019s"]),
        lambda: rng.choice("09\u00b2\u0663\u2167\u4e03\u0be8\U0001d7ce\U00010140"),
        lambda: rng.choice("aZ\u00e9\u00df\u6f22\ud55c\u0639\u0939\u01c5\u02b0\u17b4"),
        lambda: rng.choice("\u0301\u093f\u0e31\u20dd\ufe0f\u200d\U0001f600\u00bf!_<|-"),
        lambda: chr(rng.randrange(0x80)),
        lambda: chr(rng.choice(SCALARS[:0x3000])),
        lambda: chr(rng.choice(SCALARS)),
    ]
    texts = []
    for _ in range(400):
        few = rng.sample(kinds, rng.randint(1, 4))
        texts.append("".join(rng.choice(few)() * rng.choice([1, 1, 1, 2, 5]) for _ in range(rng.randint(1, 24))))
    return [{"text": text, **{name: _lengths(cut, text) for name, cut in CUTTERS.items()}} for text in texts]


def _lengths(cut: pre_tokenizers.PreTokenizer, text: str) -> list[int]:
    """A byte is one character behind ByteLevel."""
    lengths = [len(word) for word, _ in cut.pre_tokenize_str(text)]
    assert sum(lengths) == len(text.encode()), text
    return lengths
