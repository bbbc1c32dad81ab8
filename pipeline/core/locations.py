"""Locations: paths on this machine, and addresses such as `s3://bucket/prefix`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.core.errors import ConfigError
from pipeline.core.name_matching import file_uri_to_path, is_file_uri

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# The user part and the query of an address may hold a secret: a password or a signature.
_SECRETS = re.compile(
    r"""(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@'"]*:[^\s/@'"]*@)?(?P<rest>[^\s?'"]*)(?P<query>\?[^\s'"]*)?""",
    re.I,
)


@dataclass(frozen=True)
class Uri:
    """An address such as `s3://bucket/prefix`, with the part of Path's interface that is needed.

    It only composes names and sends no requests.
    """

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


def expand_home(path: str) -> Path:
    """Return a path with `~` at its beginning replaced by the home folder, as in the shell.

    A path such as `~name`, where no user has this name, stays as it is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def parse_location(given: str) -> Location:
    """Parse a path or an address.

    Raises:
        ConfigError: The address holds a password, or nothing after its scheme.
    """
    if is_file_uri(given):
        unquoted, as_written = (
            expand_home(file_uri_to_path(given, quoted)) for quoted in (True, False)
        )
        return as_written if as_written.exists() and not unquoted.exists() else unquoted
    if not is_uri(given):
        return expand_home(given)
    rest = given.partition("://")[2]
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ConfigError(
            f"{redact_secrets(given)}: an address must not hold a password. Credentials come from "
            "the environment, as the store's own tools read them."
        )
    if not rest.strip("/"):
        raise ConfigError(f"{given}: expected an address such as s3://bucket/folder.")
    return Uri(given if "?" in given else given.rstrip("/"))


def redact_secrets(text: str) -> str:
    """Return a text for messages and records: its addresses have no passwords and no queries."""

    def redact(found: re.Match[str]) -> str:
        # Only web addresses have queries. In a store's address a question mark is part of the name.
        is_web = found["scheme"].lower() in ("http://", "https://")
        return found["scheme"] + found["rest"] + ("" if is_web else found["query"] or "")

    return _SECRETS.sub(redact, text)
