"""Logs, counters and the names they carry.

A log line is one JSON object: an event name in the past tense, and fields. Event and fields are
facts; a secret is never one, and what looks like one is masked here as the last wall. Counters
count what leaves this process at the adapters: each name is a constant of this module, with unit
and meaning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from opentelemetry.metrics import Counter

TABLE_TRANSACTIONS = "kpax.table.transactions"
"""Requests to Table Storage; an entity group transaction is one, each page of a query is one."""
BUS_MESSAGES = "kpax.bus.messages"
"""Messages handed to Service Bus, one each however they are batched."""
BLOB_CALLS = "kpax.blob.calls"
"""Requests to Blob Storage; each block and each page of a listing is one."""
ARM_CALLS = "kpax.arm.calls"
"""Requests to the Resource Manager."""
VAULT_CALLS = "kpax.vault.calls"
"""Requests to a Key Vault, the authentication challenge included."""
ALARMS_RAISED = "kpax.alarms.raised"
"""Alarms raised, each once; what they are about stands in the table `alarms`."""
STACKS_STRAY = "kpax.stacks.stray"
"""Stacks that could not be deleted, each once; they stand in the table `strays` and cost money."""

_MEANING = {
    TABLE_TRANSACTIONS: "requests to Table Storage",
    BUS_MESSAGES: "messages sent to Service Bus",
    BLOB_CALLS: "requests to Blob Storage",
    ARM_CALLS: "requests to the Resource Manager",
    VAULT_CALLS: "requests to Key Vaults",
    ALARMS_RAISED: "alarms raised",
    STACKS_STRAY: "stacks that could not be deleted",
}

FIELDS = ("space", "op", "step", "cluster", "trace")
"""Fields that stand on every line where they are known."""

# --- counters -------------------------------------------------------------------------------

_counts: dict[str, int] = {}
_counters: dict[str, Counter] = {}


def count(name: str, amount: int = 1) -> None:
    """Add to a counter, here and in OpenTelemetry."""
    _counts[name] = _counts.get(name, 0) + amount
    _counter(name).add(amount)


def counts() -> dict[str, int]:
    """What this process has counted since it started, or since `reset_counts`."""
    return dict.fromkeys(_MEANING, 0) | _counts


def reset_counts() -> None:
    """Start counting from nought; tests and the bench measure from here."""
    _counts.clear()


def _counter(name: str) -> Counter:
    if name not in _counters:
        from opentelemetry.metrics import get_meter  # noqa: PLC0415 — only what counts pays for it

        meter = get_meter("kpax")
        _counters[name] = meter.create_counter(name, unit="1", description=_MEANING[name])
    return _counters[name]


# --- logs -----------------------------------------------------------------------------------

_bound: ContextVar[Mapping[str, object]] = ContextVar("kpax_log_fields", default={})  # noqa: B039 — never changed in place


@contextlib.contextmanager
def bound(**fields: object) -> Generator[None]:
    """Put these fields on every line logged inside; None leaves a field as it was."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = _bound.set({**_bound.get(), **known})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonFormatter(logging.Formatter):
    """One line of JSON per record: `at`, `level`, `event`, then the fields in name order."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON text, secrets masked."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": masked(record.getMessage()),
        }
        fields = {**_bound.get(), **_extra(record)}
        line |= {name: _safe(name, fields[name]) for name in sorted(fields)}
        if record.exc_info:
            line["error"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=lambda value: masked(str(value)))


def set_up_logging_as_asked(env: Mapping[str, str] = os.environ) -> None:
    """Log JSON lines where the setting `KPAX_LOGS=json` asks for it.

    On Azure it does, because the host there writes the message of a record and drops its fields.
    The local Functions host writes the fields itself.
    """
    if env.get("KPAX_LOGS") == "json":
        set_up_logging()


def set_up_logging(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send the `kpax` logger's lines as JSON to `stream` (stderr). Repeatable."""
    logger = logging.getLogger("kpax")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_SECRET_NAMES = re.compile(
    r"password|secret|token|credential|authorization|connection_string|account_key|function_key|api_key",
    re.IGNORECASE,
)
_SECRET_TEXTS = re.compile(
    r"((?:AccountKey|SharedAccessKey|SharedAccessSignature|sig|code|password)=)[^;&\s\"']+"
    r"|(\bBearer\s+)[\w.~+/=-]+"
    r"|(\b\w+://[^\s:/@]+:)[^\s@/]+(?=@)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """The text, with what looks like a key, a signature, a token or a password as three stars."""
    return _SECRET_TEXTS.sub(lambda hit: (hit[1] or hit[2] or hit[3]) + "***", text)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _safe(name: str, value: object) -> object:
    if _SECRET_NAMES.search(name):
        return "***"
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        return {str(key): _safe(str(key), item) for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(name, item) for item in cast("list[object]", value)]
    return value
