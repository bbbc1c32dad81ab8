"""SHA-256 of files."""

import hashlib
from pathlib import Path


def sha256_of(*paths: Path) -> str:
    """Hexadecimal, streamed; of several files that of their bytes one after another."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
