"""What the tests of faults share."""

from collections.abc import Sequence

import pytest

from pipeline import cli


@pytest.fixture
def unexpected(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Collect the errors that no part of the program expected."""
    errors: list[Exception] = []

    def note(error: Exception, arguments: Sequence[str]) -> int:
        errors.append(error)
        return 1

    monkeypatch.setattr(cli, "report_unexpected", note)
    return errors
