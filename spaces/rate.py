"""A token bucket in memory: refusing must cost nothing."""

from __future__ import annotations

import time

from spaces.errors import ThrottledError


class Bucket:
    """Allows `per_min` calls a minute, and that many at once after a quiet minute."""

    def __init__(self, per_min: int) -> None:
        self._per_s = per_min / 60
        self._most = float(per_min)
        self._tokens = self._most
        self._at = time.monotonic()

    def take(self) -> None:
        """Take one; raise `ThrottledError` with the seconds until the next one."""
        now = time.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            wait = (1 - self._tokens) / self._per_s if self._per_s else 60.0
            raise ThrottledError("too many requests", retry_after_s=wait)
        self._tokens -= 1
