"""A browser for the tests that look at a report."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.results.commands.browser import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one
