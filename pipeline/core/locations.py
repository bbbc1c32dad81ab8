"""Places that are no path on this machine: `s3://bucket/prefix`, and how they are told from paths."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.core.errors import ConfigError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# The user's part, and the query of a web address: both may hold a secret (a password, a signature).
_SECRETS = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'"]*:[^\s/@'"]*@)?(?P<rest>[^\s?'"]*)(?P<query>\?[^\s'"]*)?""",
    re.I,
)


@dataclass(frozen=True)
class Uri:
    """What a Path is for files, as far as places are composed and named; it asks nobody."""

    text: str

    def __truediv__(self, name: str) -> "Uri":
        return Uri(f"{self.text.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Uri":
        return Uri(self.text.rstrip("/").rpartition("/")[0])

    @property
    def scheme(self) -> str:
        return self.text.partition("://")[0].lower()

    def absolute(self) -> "Uri":
        return self


Location: TypeAlias = Path | Uri


def is_uri(text: str) -> bool:
    return _SCHEME.match(text) is not None


def parse_location(given: str) -> Location:
    """A path or an address. Raises ConfigError for one that holds a secret, or nothing behind its scheme."""
    scheme, _, rest = given.partition("://")
    if not is_uri(given) or scheme.lower() == "file":
        return Path(rest if is_uri(given) else given).expanduser()
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ConfigError(
            f"{redact_secrets(given)}: an address must not hold a password. Credentials come from the environment, as the "
            f"store's own tools read them."
        )
    if not rest.strip("/"):
        raise ConfigError(f"{given}: expected an address such as s3://bucket/folder.")
    return Uri(given if "?" in given else given.rstrip("/"))


def redact_secrets(text: str) -> str:
    """The text, its addresses without passwords and queries: for messages and records."""

    def plain(found: re.Match[str]) -> str:
        web = found["scheme"].lower() in (
            "http://",
            "https://",
        )  # elsewhere a question mark belongs to the name
        return found["scheme"] + found["rest"] + ("" if web else found["query"] or "")

    return _SECRETS.sub(plain, text)
