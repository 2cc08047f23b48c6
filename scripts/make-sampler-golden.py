#!/usr/bin/env python3
"""Writes tests/golden/sampler.json: sampling distributions as Hugging Face transformers defines them.

    pip install torch transformers
    python3 scripts/make-sampler-golden.py

The processors and their order are those of `GenerationMixin._get_logits_processor`; they run in float64
on seeded float32 logits without ties, so that no tie rule decides. Nothing that ships needs this script.
"""

import itertools
import json
import random
from pathlib import Path

import torch
import transformers
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 96
OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "sampler.json"


def distribution(logits, context, temperature, top_k, top_p, min_p, repetition_penalty):
    processors = LogitsProcessorList()
    if repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(repetition_penalty))
    processors.append(TemperatureLogitsWarper(temperature))
    if top_k != 0:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        processors.append(TopPLogitsWarper(top_p))
    if min_p != 0.0:
        processors.append(MinPLogitsWarper(min_p))
    scores = processors(torch.tensor([context]), torch.tensor([logits], dtype=torch.float64))
    probabilities = torch.softmax(scores, dim=-1)[0]
    return [[i, p] for i, p in enumerate(probabilities.tolist()) if p > 0.0]


def main():
    random.seed(20240607)
    rows = []
    for spread in (1.0, 3.0, 8.0):
        row = [random.gauss(0.0, spread) for _ in range(VOCAB)]
        rows.append(torch.tensor(row, dtype=torch.float32).double().tolist())
    context = [random.randrange(VOCAB) for _ in range(20)]
    # Every float below is exact in float32, so that both sides filter with the same number.
    grid = itertools.product(
        range(len(rows)), (0.25, 1.0, 1.75), (0, 1, 7, 40), (1.0, 0.5, 0.9375), (0.0, 0.125), (1.0, 1.25)
    )
    cases = [
        {
            "logits": row,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": penalty,
            "kept": distribution(rows[row], context, temperature, top_k, top_p, min_p, penalty),
        }
        for row, temperature, top_k, top_p, min_p, penalty in grid
    ]
    # Keeps the file small: every fifth case still meets every pair of settings.
    cases = cases[::5]
    log_softmax = [torch.log_softmax(torch.tensor(row, dtype=torch.float64), dim=-1).tolist() for row in rows]
    golden = {
        "recipe": "scripts/make-sampler-golden.py",
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "context": context,
        "logits": rows,
        "log_softmax": log_softmax,
        "cases": cases,
    }
    OUT.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{OUT}: {len(cases)} cases, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
