r"""File names as keys. A key is the path below the input folder with `/`, as text.

File names are bytes, text is not: a byte that is no UTF-8 becomes `\xNN`, and so that every key leads back to its file,
a name's own backslash before an `x` becomes `\x5c`. Every other name is its own key.
"""

import os
import re

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def key_of(path: str) -> str:
    """`path` as the operating system gives it (with surrogate escapes) -> key, always valid UTF-8."""
    data = os.fsencode(path).replace(b"\\x", b"\\x5cx")
    return data.decode("utf-8", errors="backslashreplace")


def path_of(key: str) -> str:
    """The inverse of `key_of`."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), key.encode()))
