"""Scores forms of one model: float32, the pack, and plain Q4_0 rounding. Called by scripts/quality."""

import argparse
import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

ROOT = Path(__file__).parents[2]
CONTEXT = 512
SEPARATOR = 0  # <|endoftext|>


def rewrite(source: Path, target: Path, kind_of) -> None:
    """`source` with every matrix as `kind_of(name)` says, or as it is where that says nothing."""
    reader = gguf.GGUFReader(source)
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], element)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        wanted = kind_of(tensor.name) if len(tensor.shape) == 2 else None
        if wanted is not None:
            data, kind = gguf.quants.quantize(gguf.quants.dequantize(data, kind), wanted), wanted
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(part, target)


def gzipped(path: Path) -> int:
    """Bytes of the tensors as gzip sends them."""
    return sum(len(gzip.compress(t.data.tobytes(), 6)) for t in gguf.GGUFReader(path).tensors)


def run(binaries: Path, *arguments: str, lines: list[dict]) -> list[dict]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([binaries / "smollm", *arguments], input=text, stdout=subprocess.PIPE, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for answer in answers:
        if "error" in answer:
            sys.exit(f"smollm: {answer['error']}")
    return answers


def evaluation_ids(binaries: Path, model: Path) -> list[list[int]]:
    """Windows of 512 tokens: those of the golden references, then the texts beside this file."""
    golden = json.loads((ROOT / "tests/golden/real-logprobs.json").read_text())["chunks"]
    texts = (Path(__file__).parent / "human.txt").read_text(encoding="utf-8").rstrip("\n").split("\n\f\n")
    answers = run(binaries, "tokenize", "--model", str(model), lines=[{"text": text} for text in texts])
    ids = [i for answer in answers for i in [*answer["ids"], SEPARATOR]]
    windows = [ids[start : start + CONTEXT] for start in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    return golden + windows


def score(binaries: Path, model: Path, windows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each token but a window's first, and the likeliest token in its place."""
    answers = run(binaries, "score", "--model", str(model), lines=[{"ids": ids} for ids in windows])
    logprobs = np.concatenate([np.array(answer["logprobs"][1:], np.float64) for answer in answers])
    return logprobs, np.concatenate([np.array(answer["argmax"][:-1]) for answer in answers])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="writes the figures as JSON, too")
    args = parser.parse_args()
    model = args.model
    if model.is_dir():
        (model,) = model.glob("*.gguf")
    args.work.mkdir(parents=True, exist_ok=True)

    def form(name: str, kind_of) -> Path:
        path = args.work / f"{name}.gguf"
        rewrite(model, path, kind_of)
        return path

    pack = args.work / "pack"
    quantize = [args.binaries / "quantize_model", "--model-path", model, "--output-path", pack, "--format", "int4"]
    subprocess.run(quantize, stdout=subprocess.DEVNULL, check=True)
    shards = json.loads((pack / "manifest.json").read_text())["shards"]
    embedding = "token_embd.weight"
    float32 = form("float32", lambda name: Type.F32)
    forms = [
        ("float32", float32, None),
        ("source, Q4_1 and Q8_0", model, gzipped(model)),
        ("pack", pack, sum(shard["bytes"] for shard in shards)),
    ]
    for name, kind_of in [
        ("Q4_0 layers, Q8_0 embedding", lambda name: None if name == embedding else Type.Q4_0),
        ("Q4_0 everywhere", lambda name: Type.Q4_0),
    ]:
        path = form(name.replace(" ", "-").replace(",", ""), kind_of)
        forms.append((name, path, gzipped(path)))

    windows = evaluation_ids(args.binaries, model)
    rows = []
    for name, path, size in forms:
        logprobs, likeliest = score(args.binaries, path, windows)
        if not rows:
            reference = logprobs, likeliest
        change = logprobs - reference[0]
        rows.append(
            {
                "form": name,
                "bytes": size,
                "perplexity": math.exp(-logprobs.mean()),
                "over_float32": math.exp(-change.mean()) - 1,
                "top1_agreement": float((likeliest == reference[1]).mean()),
                "mean_log_probability_change": float(np.abs(change).mean()),
            }
        )
    print(f"{sum(len(ids) - 1 for ids in windows)} predictions\n")
    print(f"{'':<28} {'MB':>6} {'perplexity':>10} {'':>7} {'top-1':>7} {'mean |d ln p|':>13}")
    for row in rows:
        size = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:.2f}"
        print(
            f"{row['form']:<28} {size:>6} {row['perplexity']:>10.3f} {row['over_float32']:>+7.2%} "
            f"{row['top1_agreement']:>7.2%} {row['mean_log_probability_change']:>13.4f}"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"predictions": len(reference[0]), "forms": rows}, indent=2) + "\n")


main()
