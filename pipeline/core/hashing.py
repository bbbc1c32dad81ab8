"""SHA-256 of texts, files and tensors, and seeds derived from it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def hash_text(text: str) -> str:
    """Return the first eight hexadecimal digits of a text's SHA-256, for folder names."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def hash_file(*paths: Path) -> str:
    """Return the hexadecimal SHA-256 of the concatenated bytes of the files, read as a stream."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def hash_tensors(state: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        # Hash the bytes, because NumPy has no bfloat16.
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit random seed that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1
