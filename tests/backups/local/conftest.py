"""Folders in memory where the machine has such a place: a busy disk would be what is measured."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = Path("/dev/shm")  # noqa: S108 — temporary folders are made in it, private as anywhere


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of the test's own."""
    place = str(MEMORY) if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
