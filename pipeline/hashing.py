"""SHA-256 of files."""

import hashlib
from pathlib import Path


def short_hash(text: str) -> str:
    """Eight letters that stand for a text in a folder's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sha256_of(*paths: Path) -> str:
    """Hexadecimal, streamed; of several files that of their bytes one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
