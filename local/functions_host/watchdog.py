"""Notices a function that blocks the event loop all functions share.

A thread looks on from outside: it can say where the loop hangs while it hangs, and it can still
act when the loop never comes back.
"""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host import logs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

log = logging.getLogger("functions_host.watchdog")

_BEAT_S = 0.1
_LAG_S = 0.2
_OWN = str(Path(__file__).parent)


class Watchdog:
    """Logs `loop.blocked` for every block over 200 ms; calls `on_stuck` once it lasts `limit_s`."""

    def __init__(
        self, *, app: Path, limit_s: float | None, on_stuck: Callable[[], None]
    ) -> None:
        self._app = str(app)
        self._limit_s = limit_s
        self._on_stuck = on_stuck
        self._beat_at = monotonic()
        self._seen: tuple[list[str], str] | None = None
        self._stop = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop`, which runs in the calling thread."""
        self._beat_at = monotonic()
        self._timer = loop.call_later(_BEAT_S, self._beat, loop)
        thread = threading.get_ident()
        threading.Thread(
            target=self._watch, args=(thread,), name="watchdog", daemon=True
        ).start()

    def stop(self) -> None:
        """Look away."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        lag_s = now - self._beat_at - _BEAT_S
        if lag_s > _LAG_S:
            functions, where = self._seen or ([], "")
            log.warning(
                "loop.blocked",
                extra={"lag_ms": round(lag_s * 1000), "functions": functions, "where": where},
            )
        self._seen = None
        self._beat_at = now
        self._timer = loop.call_later(_BEAT_S, self._beat, loop)

    def _watch(self, thread: int) -> None:
        while not self._stop.wait(_BEAT_S):
            lag_s = monotonic() - self._beat_at - _BEAT_S
            if lag_s > _LAG_S / 2 and self._seen is None:
                names = sorted({one.function for one in list(logs.running.values())})
                self._seen = (names, self._where(sys._current_frames().get(thread)))  # noqa: SLF001 — the only way to see another thread's stack
            if self._limit_s is not None and lag_s > self._limit_s:
                functions, where = self._seen or ([], "")
                log.error(
                    "loop.stuck",
                    extra={
                        "lag_ms": round(lag_s * 1000),
                        "functions": functions,
                        "where": where,
                    },
                )
                self._on_stuck()
                return

    def _where(self, frame: FrameType | None) -> str:
        """The innermost line of the app's own code, else the innermost line."""
        innermost = frame
        while frame is not None:
            file = frame.f_code.co_filename
            is_ours = file.startswith(_OWN) or "site-packages" in file
            if file.startswith(self._app) and not is_ours:
                innermost = frame
                break
            frame = frame.f_back
        return "" if innermost is None else _line(innermost)


def _line(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
