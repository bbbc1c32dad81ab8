"""SHA-256 of files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def hash_text(text: str) -> str:
    """Eight letters that stand for a text in a folder's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def hash_file(*paths: Path) -> str:
    """Hexadecimal, streamed; of several files that of their bytes one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def hash_tensors(state: Mapping[str, Any]) -> str:
    """Of named tensors, whatever file they came from."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        )  # NumPy has no bfloat16
    return digest.hexdigest()


def derive_seed(*parts: int | str) -> int:
    """63 bits for a random generator: a function of the parts alone, and far from that of other parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1
