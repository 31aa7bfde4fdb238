"""The time of day, from the system."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """The system's clock."""

    def now(self) -> datetime:
        """Aware, UTC."""
        return datetime.now(UTC)
