r"""The grammar of words: how the text after `key=` is read.

The check of a setting decides how its text is read (see `declare_kind` in `validators.py`):

TEXT           one text or path, taken as written: blanks, commas, brackets, quotes, `=`, `$`, `no`,
               `007` and `1e3` are plain text. `~` at the beginning is the home folder.
TEXTS          `name`, or a list: `[dog, stop sign, "salt, pepper"]`. Each name is plain text.
SCORES         a number, or a number for each name: `{default: 0.5, "a: b": 0.8}`.
TEXT_OR_NUMBER a number, or else TEXT.
VALUE          numbers, truth values, lists and mappings, by the rules of YAML.

Quotes around a whole text or name keep what would separate it: a comma, a bracket, a colon. Inside
them `\'` stands for a quote. The word `null` means that a setting is not given.

In a sweep, commas outside quotes and brackets separate the values of a setting.
"""

import os
import re
from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.locations import expand_home

_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_REFERENCE = re.compile(r"(?P<slashes>\\*)\$\{(?:(?P<name>\w+)(?P<rest>[\w.:]*)[^{}]*\})?")
_WHOLE_REFERENCE = re.compile(r"\$\{[\w.:]+\}")
_RESOLVERS = frozenset({"hydra", "oc"})


class Kind(Enum):
    """Kind of a setting: decides how its text is read."""

    TEXT = auto()
    TEXTS = auto()
    SCORES = auto()
    TEXT_OR_NUMBER = auto()
    VALUE = auto()


# --- words to values


def read_text(word: str) -> str | None:
    """Read a text or a path; None for `null`."""
    if word == "null":
        return None
    # A path that exists as it is written is meant, whatever its name.
    if (inner := _unquote(word)) is not None and not os.path.lexists(word):
        return inner
    return str(expand_home(word)) if word.startswith("~") else word


def read_texts(key: str, word: str) -> list[str] | None:
    """Read one name or a list of names; None for `null`.

    Raises:
        ConfigError: A bracket or a name is missing, or a comma needs brackets or quotes.
    """
    text = word.strip()
    if text == "null":
        return None
    if text.startswith("{") and text.endswith("}"):
        raise ConfigError(
            f"{key}={word}: expected a class name or a list such as [dog, cat], got a mapping. "
            "A name with braces needs quotes."
        )
    if not text.startswith("["):
        if len(list(_split(text))) > 1:
            raise ConfigError(
                f"{key}={word}: for a list write {key}=[{text}]; for one name with a comma write "
                f"{key}=['{text}']."
            )
        return [_read_name(text)]
    if not text.endswith("]"):
        raise ConfigError(f"{key}={word}: the list cannot be read, its closing ] is missing.")

    inside = text[1:-1]
    items = [item.strip() for item in _split(inside)] if inside.strip() else []
    if "" in items:
        raise ConfigError(
            f"{key}={word}: a name is empty. Expected a list such as [dog, stop sign]."
        )
    return [_read_name(item) for item in items]


def read_scores(key: str, word: str) -> dict[str, Any]:
    """Read a mapping such as `{default: 0.5, person: 0.8}`. A value that is no number stays text.

    Raises:
        ConfigError: It is not a mapping.
    """
    text = word.strip()
    items = [item.strip() for item in _split(text[1:-1]) if item.strip()]
    scores: dict[str, Any] = {}
    for item in items if text.endswith("}") else [""]:
        name, colon, number = item.rpartition(":")
        if not colon or not name.strip():
            raise ConfigError(
                f"{key}={word}: the mapping cannot be read. Expected one such as "
                "{default: 0.5, person: 0.8}."
            )
        number = number.strip()
        scores[_read_name(name.strip())] = _read_number(number) if is_number(number) else number
    return {name: None if score == "null" else score for name, score in scores.items()}


def _read_number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def is_number(word: str) -> bool:
    """Return whether a word is a number."""
    return _NUMBER.fullmatch(word) is not None


def split_sweep(word: str, kind: Kind) -> list[str]:
    """Split the values of a sweep at the commas that are outside quotes.

    In lists and mappings, commas inside brackets do not separate values either.
    """
    return list(_split(word, brackets=kind in (Kind.TEXTS, Kind.SCORES)))


# --- words to Hydra's overrides


def to_hydra(key: str, word: str, kind: Kind, references: Collection[str]) -> str:
    """Turn a word into the value of an override that Hydra reads as the same value.

    Args:
        key: The setting, for messages.
        word: The text as typed.
        kind: How it is read.
        references: The settings that `${...}` may refer to. Any other `${` is plain text.
    """
    if kind is Kind.TEXT_OR_NUMBER:
        kind = Kind.VALUE if is_number(word) else Kind.TEXT
    if kind is Kind.SCORES:
        kind = Kind.TEXT if word.strip().startswith("{") else Kind.VALUE
        return _quote(word, ()) if kind is Kind.TEXT else word
    if kind is Kind.VALUE or not word:
        return word

    if kind is Kind.TEXT:
        text = read_text(word)
        is_reference = _WHOLE_REFERENCE.fullmatch(word) and not os.path.lexists(word)
        return "null" if text is None else word if is_reference else _quote(text, references)
    names = read_texts(key, word)
    return "null" if names is None else f"[{','.join(_quote(name, ()) for name in names)}]"


def from_hydra(value: str) -> str:
    """Return a quoted text of an override as it was before `to_hydra`; other values as they are."""
    text = _unquote(value)
    if text is None:
        return value
    return re.sub(r"(\\*)\\\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)


def escape_references(text: str, references: Collection[str] = ()) -> str:
    r"""Escape each `${` of a text for OmegaConf, except references to the named settings."""

    def escape(found: re.Match[str]) -> str:
        is_resolver = found["name"] in _RESOLVERS and ":" in (found["rest"] or "")
        if references and (found["name"] in references or is_resolver):
            return found[0]
        slashes = found["slashes"]
        rest = found[0][len(slashes) + 2 :]
        return f"{slashes * 2}\\${{{escape_references(rest, references)}"

    return _REFERENCE.sub(escape, text)


def _quote(text: str, references: Collection[str]) -> str:
    """Quote a text for Hydra."""
    text = escape_references(text, references)
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


# --- names and quotes


def _read_name(text: str) -> str:
    inner = _unquote(text)
    return text if inner is None else inner


def _unquote(text: str) -> str | None:
    """Return what is inside the quotes around a whole text; None if it has none."""
    found = _read_quoted(text, 0)
    return found[0] if found and found[1] == len(text) else None


def _read_quoted(text: str, at: int) -> tuple[str, int] | None:
    r"""Read the quoted text that begins at a position.

    A quote inside is written `\'` or `''`. A backslash stands for itself unless a quote follows.

    Returns:
        What is inside the quotes and the position behind them; None if no quoted text begins here.
    """
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        return None

    inside, at = "", at + 1
    while at < len(text):
        rest = text[at:].lstrip("\\")
        end = len(text) - len(rest)
        slashes = text[at:end]
        at, is_quote = end + 1, text[end : end + 1] == quote
        if not is_quote:
            inside += slashes + text[end : end + 1]
            continue

        inside += slashes[: len(slashes) // 2]
        if len(slashes) % 2 == 0:
            if text[at : at + 1] != quote:
                return inside, at
            at += 1
        inside += quote
    return None


def _split(text: str, brackets: bool = False) -> Iterator[str]:
    """Yield the parts between commas.

    Args:
        text: A part that is quoted as a whole may contain commas.
        brackets: Whether commas inside brackets and braces separate no parts.
    """
    at = start = depth = 0
    while at < len(text):
        begins = not text[start:at].strip() or (brackets and text[:at].rstrip()[-1:] in "[{,")
        quoted = _read_quoted(text, at) if begins else None
        if quoted and text[quoted[1] :].lstrip()[:1] in ("", ",", ":", *("]}" if brackets else "")):
            at = quoted[1]
            continue

        if brackets:
            depth += (text[at] in "[{") - (text[at] in "]}")
        if text[at] == "," and depth <= 0:
            yield text[start:at]
            start = at + 1
        at += 1
    yield text[start:]
