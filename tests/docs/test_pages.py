"""Check links, file names and sizes of the documentation."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES
from tests.helpers.paths import REPOSITORY

_LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
_FILE = re.compile(r"`((?:pipeline|tests|conf|docs|data)/[\w./-]+\.\w+)`")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors_of(found), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in _FILE.findall(page.read_text(encoding="utf-8")):
        placeholder = "NAME" in name or "<" in name
        assert placeholder or (REPOSITORY / name).exists(), f"{page.name} names {name}"


def test_the_readme_links_to_every_page_and_is_short() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    pages = [page.name for page in PAGES if page.name != "README.md"]
    assert [name for name in pages if f"(docs/{name})" not in readme] == []
