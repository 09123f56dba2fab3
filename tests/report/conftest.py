"""A page of two songs, open in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from my_submission.src import report
from tests.helpers.browser import Browser
from tests.helpers.report_page import make_songs


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of two songs; return its path, which is full of special characters."""
    folder = tmp_path_factory.mktemp("a & b #1 100% ü?")
    page = folder / 'the "page" <1> #2.html'
    report.write_page(page, make_songs(folder / "songs"), title="Evaluation of <b>x</b>", failed={"<i>": "because"})
    return page


@pytest.fixture
def page(browser: Browser, written: Path) -> Iterator[Browser]:
    """Open the page again. During the test it must log nothing and request nothing but files."""
    browser.console()
    browser.open(Path(written))
    browser.requests()
    browser.open(Path(written))
    yield browser
    assert browser.console() == []
    asked = browser.requests()
    assert asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
