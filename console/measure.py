"""What is measured every minute: how deep and how old the queues are, what waits for a person.

The gauges are those of OpenTelemetry; the log line says the same where nothing collects them. A
queue that is old means that the app does not work, or does not keep up: both page somebody.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from opentelemetry.metrics import get_meter

from console import fleet
from spaces.ports import QueueDepth
from spaces.saga import watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces.ports import Ports

log = logging.getLogger("kpax.measure")

QUEUE_AGE = "kpax.queue.age"
"""Seconds that the oldest workable message of a queue has waited; by queue."""
QUEUE_DEPTH = "kpax.queue.depth"
"""Messages in a queue; by queue and state (active, scheduled, dead)."""
OPERATIONS_WATCHED = "kpax.operations.watched"
"""Spaces with an operation under way, or about to have one."""

# A message that waits this long is an alarm: the sweeper itself comes every minute.
OLD_S = 120.0
# Nobody works on these here: their messages wait for consumers of others, and lapse.
NOT_OURS = frozenset({"space-events"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One look: the queues, since when each has had work waiting, and how many spaces are watched."""

    queues: tuple[QueueDepth, ...]
    oldest: dict[str, datetime | None]
    watched: int

    def age_s(self, queue: str, now: datetime) -> float:
        """How long the oldest workable message of a queue has waited; 0 where there is none."""
        since = self.oldest.get(queue)
        return max((now - since).total_seconds(), 0.0) if since is not None else 0.0


async def look(ports: Ports) -> Measured:
    """Ask the broker and the watch list."""
    names = fleet.queues()
    depths = await ports.bus.depths(names)
    oldest = {
        depth.name: await ports.bus.oldest(depth.name) if depth.active else None
        for depth in depths
    }
    return Measured(
        queues=tuple(depths), oldest=oldest, watched=len(await watch.all_of(ports.tables))
    )


def old_queues(measured: Measured, now: datetime) -> Sequence[str]:
    """Queues of ours whose oldest message waits too long."""
    return [
        depth.name
        for depth in measured.queues
        if depth.name not in NOT_OURS and measured.age_s(depth.name, now) > OLD_S
    ]


async def measure(ports: Ports) -> Measured:
    """Look, set the gauges, and say aloud what is too old."""
    measured, now = await look(ports), ports.clock.now()
    meter = get_meter("kpax")
    age = meter.create_gauge(QUEUE_AGE, unit="s")
    depths = meter.create_gauge(QUEUE_DEPTH, unit="1")
    for depth in measured.queues:
        age.set(measured.age_s(depth.name, now), {"queue": depth.name})
        for state, count in (
            ("active", depth.active),
            ("scheduled", depth.scheduled),
            ("dead", depth.dead_letter),
        ):
            depths.set(count, {"queue": depth.name, "state": state})
    meter.create_gauge(OPERATIONS_WATCHED, unit="1").set(measured.watched)
    for queue in old_queues(measured, now):
        log.error(
            "queue.old",
            extra={
                "queue": queue,
                "age_s": round(measured.age_s(queue, now)),
                "see": "docs/running.md#queue.old",
            },
        )
    return measured
