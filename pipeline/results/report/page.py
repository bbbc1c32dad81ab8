"""Write the page: one self-contained HTML file that fetches nothing.

All text from a run is escaped: by Jinja in the page, by `tojson` in the blocks of data.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

_HERE = Path(__file__).parent


def write_page(file: TextIO, content: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        content: values of the variables in report.html.j2. Iterators are consumed while the page is
            written.
    """
    # These files belong to this package, so they are safe to insert without escaping.
    style = Markup((_HERE / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    script = Markup((_HERE / "report.js").read_text(encoding="utf-8"))  # noqa: S704
    for piece in load_template().generate(
        **content, style=style, script=script, policy=_policy(style, script)
    ):
        file.write(piece)


@cache
def load_template() -> Template:
    """Compile the template. The result is cached, because compiling takes 0.1 s."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template("report.html.j2")


def _policy(style: str, script: str) -> str:
    """Return the content security policy.

    It permits only this style and this script. Pictures may come from the page itself and from
    files.
    """
    texts = {"style-src": style, "script-src": script}
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in texts.items()}
    sources = "; ".join(
        f"{name} 'sha256-{base64.b64encode(digest).decode()}'" for name, digest in digests.items()
    )
    return (
        f"default-src 'none'; {sources}; img-src 'self' file: data:; base-uri 'none'; "
        "form-action 'none'"
    )
