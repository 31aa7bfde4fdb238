"""Settings of a test process: the steps read them as the functions do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spaces.settings import settings
from tests.builders import some_environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in some_environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield
    settings.cache_clear()
