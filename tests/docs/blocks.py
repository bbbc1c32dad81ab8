"""Read the fenced blocks of the documentation."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.paths import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)$")
_NOT_RUN = re.compile(r"<!-- not run: .+ -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its line, language and text, and whether it is marked as not run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Split shell text into commands, each a list of words without comments."""
        joined = self.text.replace("\\\n", " ")
        found = [shlex.split(line, comments=True) for line in joined.splitlines()]
        return [words for words in found if words]


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield every fenced block of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start, language, before = None, "", ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if start is None and fence:
            start, language = number, fence[1]
        elif start is not None and line == "```":
            text = "\n".join(lines[start + 1 : number])
            yield Block(page, start + 1, language, text, bool(_NOT_RUN.fullmatch(before)))
            start, before = None, ""
        if start is None and line.strip() and line != "```":
            before = line.strip()


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
