"""Make docs/settings.md. Run `python -m pipeline.config.settings_page > docs/settings.md`."""

from collections.abc import Iterable, Sequence

from pipeline.config.conf_files import list_choices, read_component_file
from pipeline.config.declare import list_declarations
from pipeline.config.help_text import (
    CHOICES,
    format_value,
    get_heading,
    is_default,
    list_own_settings,
)
from pipeline.config.settings import GROUP_VERBS, GROUPS

_INTRODUCTION = """\
# Settings

<!-- Made by `python -m pipeline.config.settings_page`. Do not edit. -->

Settings are given as `key=value`, for example `make run task=detect input=~/photos min_score=0.7`.
`null` means that a setting is not given. A list is written `classes=[dog,cat]`, a setting of a
mapping `tiles.size=640`. Paths and names are the text as written: blanks, `=`, brackets, `no` and
`007` need no quotes. A name with a comma needs them (`classes=[dog,"salt, pepper"]`), and so does
a path with a comma in a sweep (`input="a,b",c`). A path that begins with `~` begins in the home
folder. The verbs that run a model (`run`, `sweep`, `inspect`, `duplicates`, `bench`, `train`,
`anchors`, `export-model`) take the settings on this page. The verbs that read finished runs have a
few of their own: `visionbatch report --help` lists those of `report`.
"""
_COMPONENTS = """\
## Components

A component is chosen by name, for example `source=video`. Its own settings are given with a dot,
for example `source.fps=2`.
"""


def build_settings_page() -> str:
    """Return the text of docs/settings.md: a table for each group and each kind of component."""
    blocks = [_INTRODUCTION]

    for group in GROUPS:
        verbs = " and ".join(f"`{verb}`" for verb in GROUP_VERBS.get(group, ()))
        heading = f"## {get_heading(group)}\n"
        blocks += [heading, *([f"Used by {verbs} only.\n"] if verbs else [])]
        rows = [
            (f"`{item.name}`", f"`{format_value(item.default)}`", item.help)
            for item in list_declarations(group)
        ]
        blocks.append(_build_table(("setting", "default", "meaning"), rows))

    blocks.append(_COMPONENTS)
    for kind, meaning in CHOICES.items():
        blocks.append(f"### `{kind}`: {meaning}\n")
        blocks.append(_build_table(("choice or setting", "default", "meaning"), _rows_of(kind)))

    return "\n".join(blocks)


def _rows_of(kind: str) -> Iterable[tuple[str, str, str]]:
    for name in list_choices(kind):
        component = read_component_file(kind, name)
        yield f"`{kind}={name}`", "chosen" if is_default(kind, name) else "", component.summary

        for item in list_own_settings(kind, component):
            yield f"`{kind}.{item.name}`", f"`{item.value}`", item.comment


def _build_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


if __name__ == "__main__":
    print(build_settings_page(), end="")
