"""The app's environment, and nothing of this machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simworld import host

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def _in_place() -> Iterator[None]:
    """Handlers open the doors of the world that runs."""
    with host.in_place():
        yield
