"""A clock that moves when it is told to, and chance that repeats itself."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


class FakeClock:
    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float = 0, **parts: float) -> datetime:
        """Move on by seconds, or by `minutes=`, `hours=`, `days=`; never back."""
        step = timedelta(seconds=seconds, **parts)
        if step < timedelta(0):
            raise ValueError("time does not run backwards")
        self._now += step
        return self._now

    def set(self, now: datetime) -> None:
        self.advance((now - self._now).total_seconds())


class FakeIds:
    """The same names in the same order for the same seed; no two alike."""

    def __init__(self, seed: str = "kpax") -> None:
        self._seed = seed
        self._drawn = 0

    def token(self, size: int) -> str:
        text = ""
        while len(text) < size:
            text += base64.b32encode(self._draw()).decode().rstrip("=").lower()
        return text[:size]

    def secret(self) -> str:
        return "S3" + base64.urlsafe_b64encode(self._draw()).decode().rstrip("=") + "x"

    def _draw(self) -> bytes:
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}:{self._drawn}".encode()).digest()
