"""One trace per operation, though its steps run in many messages, processes and days.

Nothing has to travel for that: trace and root span have ids that are computed from the operation's
id, so that any process puts its span below the same root, and the root itself is recorded once, by
whoever ends the operation. Without an SDK (`spaces.exporting`) all of this costs nothing.
Attributes are ids, names and counts; never a customer's name or a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, get_meter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from spaces.model import OpStatus, Running

STEP_SECONDS = "kpax.step.duration"
"""Seconds from a step's beginning to its end, waits and retries included; by kind, step, outcome."""
STEP_ATTEMPTS = "kpax.step.attempts"
"""Counted attempts of an ended step; by kind, step, outcome."""

_histograms: dict[str, Histogram] = {}
# Trace and span id of the root that is being recorded; `spaces.exporting` reads it.
root_ids: ContextVar[tuple[int, int] | None] = ContextVar("kpax_root_ids", default=None)


def ids_of(op_id: str) -> tuple[int, int]:
    """Trace id (128 bits) and root span id (64 bits) of an operation; never zero."""
    digest = hashlib.sha256(f"kpax operation {op_id}".encode()).digest()
    return int.from_bytes(digest[:16]) | 1, int.from_bytes(digest[16:24]) | 1


def trace_of(op_id: str) -> str:
    """The trace id of an operation as tools write it: 32 hexadecimal digits."""
    return f"{ids_of(op_id)[0]:032x}"


@contextlib.contextmanager
def attempt(space_id: str, op: Running) -> Generator[None]:
    """A span around one attempt of a step, below its operation's root; an error marks it."""
    trace_id, span_id = ids_of(op.op_id)
    root = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
    with trace.get_tracer("kpax").start_as_current_span(
        f"{op.kind} {op.step}",
        context=set_span_in_context(NonRecordingSpan(root), Context()),
        attributes={
            "kpax.space": space_id,
            "kpax.operation": op.op_id,
            "kpax.step": op.step,
            "kpax.attempt": op.attempt,
            "kpax.phase": op.phase.value,
        },
    ):
        yield


def told(outcome: str, detail: str) -> None:
    """What the attempt in hand came to: `done`, `wait`, `retry` or `failed`, and a few words."""
    span = trace.get_current_span()
    span.set_attribute("kpax.outcome", outcome)
    if outcome == "failed":
        span.set_status(Status(StatusCode.ERROR, detail[:200]))


def step_ended(op: Running, outcome: str, ended_at: datetime) -> None:
    """Count an ended step: how long it took, how many attempts it had."""
    labels = {"kind": op.kind.value, "step": op.step, "outcome": outcome}
    seconds = (ended_at - op.step_started_at).total_seconds()
    _histogram(STEP_SECONDS, "s").record(seconds, labels)
    _histogram(STEP_ATTEMPTS, "1").record(op.attempt, labels)


def operation_ended(space_id: str, op: Running, status: OpStatus, ended_at: datetime) -> None:
    """Record the root span of an operation, from its beginning to its end."""
    token = root_ids.set(ids_of(op.op_id))
    try:
        span = trace.get_tracer("kpax").start_span(
            str(op.kind),
            context=Context(),
            start_time=_nanoseconds(op.started_at),
            attributes={
                "kpax.space": space_id,
                "kpax.operation": op.op_id,
                "kpax.status": status.wire,
            },
        )
    finally:
        root_ids.reset(token)
    if status.value != "succeeded":
        span.set_status(Status(StatusCode.ERROR, (op.error or op.detail)[:200]))
    span.end(_nanoseconds(ended_at))


def _histogram(name: str, unit: str) -> Histogram:
    if name not in _histograms:
        _histograms[name] = get_meter("kpax").create_histogram(name, unit=unit)
    return _histograms[name]


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
