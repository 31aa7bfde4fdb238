"""A world that is open, and temporary files in memory where the machine has such a place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from tests.backups.world import World

MEMORY = Path("/dev/shm")  # noqa: S108 — temporary folders are made in it, private as anywhere


@pytest.fixture(autouse=True)
def _files_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand runs make ten thousand files: a busy disk would be what is measured."""
    if MEMORY.is_dir():
        monkeypatch.setattr(tempfile, "tempdir", str(MEMORY))


@pytest_asyncio.fixture
async def world() -> World:
    """An open world whose process never dies."""
    return await World().open()
