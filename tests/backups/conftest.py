"""A world that is open: one active space with rows and files."""

from __future__ import annotations

import pytest_asyncio

from tests.backups.world import World


@pytest_asyncio.fixture
async def world() -> World:
    """An open world whose process never dies."""
    return await World().open()
