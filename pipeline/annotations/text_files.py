"""Read small text files in the encodings that editors write."""

import codecs
import re
from pathlib import Path

_MARKS = (  # UTF-32 first, because its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_LINE_END = re.compile("\r\n|\n|\r")


def decode_text(data: bytes, errors: str = "strict") -> str:
    """Decode UTF-8, or the encoding that a byte order mark names.

    Raises:
        UnicodeDecodeError: The bytes are not valid in this encoding, and `errors` is strict.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding, errors)


def split_lines(text: str) -> list[str]:
    """Split a text at its line ends only: a name may hold other characters that end a line."""
    return _LINE_END.split(text)


def read_lines(path: Path) -> list[str]:
    """Return the lines that are not blank, without blanks at their ends.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is no text.
    """
    lines = (line.strip() for line in split_lines(decode_text(path.read_bytes())))
    return [line for line in lines if line]
