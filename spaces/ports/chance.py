"""Time and chance, so that tests can hold both still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...


class Ids(Protocol):
    """Chance, so that tests can hold it still."""

    def token(self, size: int) -> str:
        """`size` characters out of `a-z2-7`, unguessable."""
        ...

    def secret(self) -> str:
        """A password of 32 random bytes, urlsafe text without characters that need quoting."""
        ...
