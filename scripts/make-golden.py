#!/usr/bin/env python3
"""Makes the reference files under tests/golden and tests/fixtures.

The references come from Hugging Face transformers, tokenizers and the models' own templates, never from
this project's code. See tests/golden/README.md for the recipe and the formats.

    python3 -m venv target/golden-venv
    target/golden-venv/bin/pip install -r scripts/golden-requirements.txt
    target/golden-venv/bin/python scripts/make-golden.py --out tests/golden --fixtures tests/fixtures

Parts: tokenizer, templates, tiny, words, real (all by default), and tokenizer-json, which writes the tokenizer.json of
the real model and of the Llama-3 vocabulary into --cache, for those who want to look at them.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from golden import bpe, sources

ROOT = Path(__file__).resolve().parent.parent


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """One object a line, ASCII only, so that no editor or diff can touch a control character."""
    rows = list(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")
    print(f"{path}: {len(rows)} rows, {path.stat().st_size} bytes")


def reference(name: str, args: argparse.Namespace) -> bpe.ReferenceTokenizer:
    return bpe.ReferenceTokenizer(bpe.tokenizer_json_from_gguf(sources.fetch(name, args.cache)))


def make_tokenizer(args: argparse.Namespace) -> None:
    from golden import tokenization

    smollm = reference("smollm2-135m-instruct.gguf", args)
    llama3 = reference("llama3-vocab.gguf", args)
    tokenization.check_llama3(llama3, *(sources.fetch(f"llama3-vocab.{end}", args.cache) for end in ("inp", "out")))
    write_jsonl(args.out / "tokenizer.jsonl", tokenization.smollm_rows(smollm))
    write_jsonl(args.out / "tokenizer-stream.jsonl", tokenization.stream_rows(smollm))
    write_jsonl(args.out / "tokenizer-llama3.jsonl", tokenization.llama3_rows(llama3))


def make_templates(args: argparse.Namespace) -> None:
    from golden import templates

    smollm = reference("smollm2-135m-instruct.gguf", args)
    write_jsonl(args.out / "templates.jsonl", templates.rows(args.fixtures / "templates", smollm))


def make_tiny(args: argparse.Namespace) -> None:
    from golden import corpus, tiny_models, tiny_tokenizers, tokenization

    models = args.fixtures / "models"
    models.mkdir(parents=True, exist_ok=True)
    tiny_models.write_models(models, args.fixtures / "templates")
    tiny_models.write_references(args.out / "tiny", models)
    smollm = bpe.ReferenceTokenizer(tiny_tokenizers.smollm())
    rows = [tokenization.row(smollm, text) for text in corpus.short_strings()]
    write_jsonl(args.out / "tokenizer-tiny.jsonl", rows)

    llama3 = tiny_tokenizers.llama3()
    path = args.fixtures / "tokenizers/llama3-tiny.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(llama3, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    texts = dict.fromkeys([*corpus.short_strings(), *corpus.LLAMA3, *corpus.LLAMA3_TINY])
    rows = [tokenization.row(bpe.ReferenceTokenizer(llama3), text) for text in texts]
    write_jsonl(args.out / "tokenizer-llama3-tiny.jsonl", rows)


def make_words(args: argparse.Namespace) -> None:
    from golden import words

    words.write_classes(ROOT / "src/tokenizer/classes.rs")
    write_jsonl(args.out / "words.jsonl", words.rows())


def make_real(args: argparse.Namespace) -> None:
    from golden import real_model

    name = "smollm2-135m-instruct.gguf"
    template = (args.fixtures / "templates/smollm2-instruct.jinja").read_text(encoding="utf-8")
    real_model.write_references(args.out, sources.fetch(name, args.cache), template, reference(name, args))


def make_tokenizer_json(args: argparse.Namespace) -> None:
    for name in ("smollm2-135m-instruct.gguf", "llama3-vocab.gguf"):
        path = args.cache / name.replace(".gguf", ".tokenizer.json")
        content = bpe.tokenizer_json_from_gguf(sources.fetch(name, args.cache))
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        print(path)


PARTS = {
    "tokenizer": make_tokenizer,
    "templates": make_templates,
    "tiny": make_tiny,
    "words": make_words,
    "real": make_real,
    "tokenizer-json": make_tokenizer_json,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden")
    parser.add_argument("--fixtures", type=Path, default=ROOT / "tests/fixtures")
    parser.add_argument("--cache", type=Path, default=ROOT / "target/golden-cache", help="where downloads are kept")
    parser.add_argument("--only", action="append", choices=PARTS, help="make this part alone (may be repeated)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.only or [name for name in PARTS if name != "tokenizer-json"]:
        PARTS[part](args)


if __name__ == "__main__":
    main()
