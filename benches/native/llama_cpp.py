"""Native llama.cpp for scripts/bench: one JSON request a line in, one answer a line out.

    python llama_cpp.py MODEL.gguf THREADS CONTEXT_LENGTH

A request is {"ids": [...], "generate": n, "keep": bool}; the times are the ones that llama.cpp's server reports.
"""

import json
import sys
import time

import xllamacpp


def server(model: str, threads: int, context_length: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_ctx = context_length
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.verbosity = -1
    return xllamacpp.Server(params)


def run(llama: xllamacpp.Server, request: dict) -> dict:
    answer = llama.handle_completions(
        {
            "prompt": request["ids"],
            "max_tokens": request["generate"] + 1,
            "temperature": 0,
            "top_k": 1,
            "ignore_eos": True,
            "cache_prompt": request["keep"],
        }
    )
    timings = (json.loads(answer) if isinstance(answer, str) else answer)["timings"]
    return {
        "prefilled": timings["prompt_n"],
        "prefillMs": timings["prompt_ms"],
        # The first token comes with the prompt.
        "decoded": timings["predicted_n"] - 1,
        "decodeMs": timings["predicted_ms"],
    }


def main() -> None:
    model, threads, context_length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    began = time.monotonic()
    llama = server(model, threads, context_length)
    info = {
        "version": xllamacpp.__version__,
        "system": xllamacpp.get_system_info(),
        "threads": threads,
        "loadMs": (time.monotonic() - began) * 1000,
    }
    print(json.dumps(info), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(llama, json.loads(line))), flush=True)


main()
