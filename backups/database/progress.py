"""How far something is: bytes done of all, rate, time left; told about once a second."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S = 1.0


class Told:
    """Counts bytes from several threads and tells a line of words."""

    def __init__(self, what: str, tell: Callable[[str], None]) -> None:
        self._what = what
        self._tell = tell
        self._lock = threading.Lock()
        self._begun = self._last = time.monotonic()
        self._done = self._total = 0

    def expect(self, size: int) -> None:
        """So many bytes more are to be done."""
        self._total += size

    def add(self, size: int) -> None:
        """So many were done."""
        with self._lock:
            self._done += size
            now = time.monotonic()
            if now - self._last < _EVERY_S:
                return
            self._last = now
            rate = self._done / (now - self._begun)
            left = max(0, self._total - self._done) / rate if rate else 0
        self._tell(
            f"{self._what}: {self._done >> 20} of {self._total >> 20} MiB,"
            f" {rate / (1 << 20):.0f} MiB/s, about {left:.0f} s left"
        )
