"""Each setting is declared once; conf/, docs/settings.md and the help agree with that."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pipeline.config.conf_files import (
    list_choices,
    list_kinds,
    list_setting_names,
    read_component_file,
)
from pipeline.config.declare import (
    build_defaults,
    check_values,
    list_declarations,
    nested_settings,
    setting,
)
from pipeline.config.help_text import format_all_settings
from pipeline.config.settings import COMPONENT_KINDS, GROUPS, Settings
from pipeline.config.settings_page import build_settings_page
from pipeline.config.validators import check_integer, check_text
from pipeline.config.verbs import MODEL_VERBS
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from tests.helpers.paths import REPOSITORY
from tests.helpers.runs import settings_for

CONF = find_resource("conf")
DECLARED = list(list_declarations(Settings))
FILES = [path for kind in sorted(list_kinds()) for path in sorted((CONF / kind).glob("*.yaml"))]


@dataclass(frozen=True)
class Inner:
    size: int = setting(check_integer(1), 3, "pixels")


@dataclass(frozen=True)
class Outer:
    name: str = setting(check_text, help="what it is called")
    names: list[str] = setting(lambda key, value: list(value), ["a"], "several")
    inner: Inner = nested_settings(Inner, "size: 5")
    undeclared: Any = None


def test_declarations_are_listed_with_dotted_names() -> None:
    found = [(item.name, item.is_required, item.help) for item in list_declarations(Outer)]
    assert found == [
        ("name", True, "what it is called"),
        ("names", False, "several"),
        ("inner.size", False, "pixels"),
    ]
    assert build_defaults(Outer)["inner"] == {"size": 3}
    assert Outer(name="x").names == ["a"] and Outer(name="x").inner == Inner(size=3)


def test_values_are_checked_at_every_level() -> None:
    given = {"name": "x", "names": ["b"], "inner": {"size": 7}}
    assert check_values(Outer, given) == {"name": "x", "names": ["b"], "inner": Inner(size=7)}


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ({"size": 0}, r"inner\.size=0: expected a whole number, 1 or more"),
        ({"siz": 1}, r"inner\.siz: inner has no such setting. Did you mean 'size'"),
        (5, r"inner=5: expected a mapping, got int 5. Say inner\.size=5, or inner=\{size: 5\}"),
        (None, "inner=None: expected a mapping"),
    ],
)
def test_a_wrong_nested_value_is_refused(inner: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_values(Outer, {"name": "x", "names": [], "inner": inner})


# --- the shipped declarations


def test_no_setting_is_declared_twice() -> None:
    names = [item.name for group in GROUPS for item in list_declarations(group)]
    assert len(names) == len(set(names)) and set(names) == {item.name for item in DECLARED}


def test_every_setting_has_a_help_text_and_a_default_that_its_check_accepts() -> None:
    for item in DECLARED:
        assert item.help and not item.is_required, item.name
        assert item.check(item.name, item.default) in (item.default, {}), item.name


def test_the_main_file_of_conf_declares_no_setting() -> None:
    config = OmegaConf.load(CONF / "config.yaml")
    assert set(map(str, config)) == {"defaults", "hydra"}


def test_every_kind_of_component_has_a_folder() -> None:
    assert set(COMPONENT_KINDS) | {"experiment"} == list_kinds()


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_of_conf_refers_to_declared_settings_only(path: Path) -> None:
    references = set(re.findall(r"\$\{([^}]+)\}", path.read_text()))
    assert references <= {item.name for item in DECLARED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_setting_of_a_component_is_described(path: Path) -> None:
    kind = path.parent.name
    component = read_component_file(kind, path.stem)
    assert component.summary.endswith(".")
    assert {item.name for item in component.settings} <= list_setting_names(kind)
    if kind != "experiment":
        assert [
            item.name for item in component.settings if not (item.comment or item.is_reference)
        ] == []


def test_an_experiment_changes_declared_settings_only() -> None:
    for name in list_choices("experiment"):
        content: Any = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{name}.yaml"))
        assert set(content) - {"defaults"} <= set(build_defaults(Settings))


# --- what is made from them


def leave_out_new_components(page: str, committed: str) -> str:
    """Return the page without the rows of components that the committed page does not have."""
    lines, is_kept = [], True
    for line in page.splitlines(keepends=True):
        if component := re.match(r"\| `\w+=\w+` \|", line):
            is_kept = component[0] in committed
        elif not line.startswith("| `"):  # the component's own settings follow its row
            is_kept = True
        lines += [line] if is_kept else []
    return "".join(lines)


def test_rows_of_new_components_are_left_out() -> None:
    page = build_settings_page()
    start, end = page.index("| `source=video` |"), page.index("\n### `engine`")
    assert "`source.fps`" in page[start:end]
    committed = page[:start] + page[end:]
    assert leave_out_new_components(page, committed) == committed
    assert leave_out_new_components(page, page) == page


def test_the_settings_page_is_up_to_date() -> None:
    committed = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == leave_out_new_components(build_settings_page(), committed), (
        "run: python -m pipeline.config.settings_page > docs/settings.md"
    )


def test_every_setting_is_in_some_verbs_help_and_on_the_page() -> None:
    helps = "\n".join(map(format_all_settings, MODEL_VERBS))
    page = build_settings_page()
    for item in DECLARED:
        assert f"\n  {item.name} " in helps and f"| `{item.name}` |" in page


def test_a_verb_lists_its_own_settings_first() -> None:
    assert format_all_settings("train").startswith("Training\n  train.data")
    assert "train.data" not in format_all_settings("run")


def test_settings_survive_their_plain_form() -> None:
    settings = settings_for(
        "classes=[dog]", "tiles.size=640", "min_score={dog: 0.7}", "shard.count=2"
    )
    assert Settings.from_plain(settings.to_plain()) == settings


def test_composing_settings_leaves_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "own=words"])
    assert settings_for("limit=2").limit == 2
    import sys

    assert sys.argv == ["program", "own=words"]
