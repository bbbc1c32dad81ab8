"""Chromium, as Debian packages it, driven by Playwright; and pages opened in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none, but not in CI."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None and os.environ.get("CI") != "true":
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    assert found, "CI must have Chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"]
        )  # a container's user is root
        yield browser
        browser.close()


def opened(browser: Browser, report: Path, address: str = "", **options: object) -> Page:
    """The report as a file, in a context of its own.

    `page.said` collects the browser's complaints and what was asked of the network.
    """
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
    page.said = []  # type: ignore[attr-defined]
    page.on("console", lambda message: page.said.append(message.text))  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.said.append(str(error)))  # type: ignore[attr-defined]
    page.on(
        "dialog", lambda dialog: (page.said.append(f"dialog: {dialog.message}"), dialog.dismiss())
    )  # type: ignore[attr-defined]
    page.goto(report.as_uri() + address)
    return page
