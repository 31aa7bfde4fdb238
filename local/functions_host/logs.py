"""The host's log: one JSON object per line on stderr, with function and invocation where there is one.

An asynchronous function runs in a context this module's variable marks; a synchronous one runs in
a thread, where the worker library leaves the invocation's id.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from local.functions_host.worker.library import thread_invocation_id

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Loggers that say at INFO what nobody reads; `host.json` cannot lower them further.
_CHATTY = ("azure", "azure.functions", "asyncio", "aiohttp.access")


@dataclass(frozen=True, slots=True)
class Running:
    """One invocation under way."""

    id: str
    function: str
    started: float = field(default_factory=monotonic)


current: ContextVar[Running | None] = ContextVar("current_invocation", default=None)
running: dict[str, Running] = {}


def current_invocation() -> Running | None:
    """The invocation this line of code works for, if any."""
    return current.get() or running.get(thread_invocation_id.get() or "")


class JsonLines(logging.Formatter):
    """A record as one line of JSON; fields given as `extra` stand beside the event."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102 — the base class says it
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        invocation = current_invocation()
        if invocation is not None:
            line |= {"function": invocation.function, "invocation": invocation.id}
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def install(level: int) -> None:
    """Send every logger of this process to stderr, from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
