"""A finished study, and its page."""

import os
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import pytest

from sharpminima.explore import write_page
from sharpminima.study.jobs import Layout

from . import cases


class Page(NamedTuple):
    """A page, where it lies, and its study."""

    folder: Path
    layout: Layout
    path: Path
    text: str


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of a study with all analyses."""
    folder = tmp_path_factory.mktemp("explored")
    with chdir(folder):
        layout = cases.finish(cases.study(folder))
        path = Path(os.fspath(write_page(layout))).absolute()
    return Page(folder, layout, path, path.read_text(encoding="utf-8"))


@pytest.fixture
def there(page: Page) -> Iterator[Page]:
    """The page, while one stands in the folder of its study."""
    with chdir(page.folder):
        yield page
