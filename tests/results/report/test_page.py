"""What a page may hold, whatever a run is called and has found."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.results.commands.report import Options, run_command
from pipeline.results.report.page import write_page
from tests.helpers.made_runs import Row, box, made_run

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028'\"&{{7*7}}"
NAME = EVIL.replace("/", "\u2215")  # as a file may be called


class Read(HTMLParser):
    """Tags with their attributes, and the text of each element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1][0] if self.tags else ""
        self.texts[tag] = self.texts.get(tag, "") + data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def values(self, *names: str) -> list[str | None]:
        return [
            value
            for _, attributes in self.tags
            for name, value in attributes.items()
            if name in names
        ]


@pytest.fixture
def page(tmp_path: Path) -> str:
    found = [box(1, 0.5, 0, 0, 9, 9)]
    rows = [Row(NAME, found=found), Row(f"x/{NAME}", None, status="corrupt", error=EVIL)]
    run = made_run(tmp_path / NAME, rows, categories=("none", EVIL, "b"), input=tmp_path / NAME)
    run_command(Options(run=run))
    return (run / "report.html").read_text(encoding="utf-8")


def test_nothing_of_a_run_becomes_markup(page: str) -> None:
    read = Read(page)
    tags = [tag for tag, _ in read.tags]
    assert "img" not in tags and tags.count("script") == 2
    assert NAME in read.texts["bdi"] and "alert(2)" in read.texts["script"]  # it is there, as text
    data = re.findall(r'id="data">(.*?)</script>', page, flags=re.DOTALL)[0]
    assert not set(data) & set("<>&\u2028\u2029") and data.endswith("}")


def test_the_policy_allows_nothing_but_this_style_and_script(page: str) -> None:
    policy = next(
        attributes["content"] for tag, attributes in Read(page).tags if "http-equiv" in attributes
    )
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert all(
        re.fullmatch(r"'sha256-[\w+/]{43}='", rules[name]) for name in ("script-src", "style-src")
    )
    assert rules["img-src"] == "'self' file: data:"


def test_nothing_is_fetched_or_styled_inline(page: str) -> None:
    read = Read(page)
    attributes = {name for _, attributes in read.tags for name in attributes}
    assert [name for name in attributes if name == "style" or name.startswith("on")] == []
    assert read.values("src", "href") == ["#gallery"]
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", page) == []


def test_every_control_has_a_name(page: str) -> None:
    tags = Read(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = Read(page).values("for", "aria-labelledby")
    assert referred and set(referred) <= set(ids)
    assert all(
        "aria-label" in attributes or "aria-hidden" in attributes
        for tag, attributes in tags
        if tag == "svg"
    )


def test_what_the_page_names_must_be_given(tmp_path: Path) -> None:
    with (
        (tmp_path / "a.html").open("w") as file,
        pytest.raises(Exception, match="'task' is undefined"),
    ):
        write_page(file, {})
