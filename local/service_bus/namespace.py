"""All queues of the broker, by name, with their store and the one clock.

Queues come from `infra/queues.json`, which the cloud's templates read too, and from the
administration endpoint; a declared queue always has its declared settings after a start.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from local.errors import Code, StackError
from local.service_bus.core import Queue
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import QueueSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from local.service_bus.box import Box
    from local.service_bus.store import Store

_DEAD, _TRANSFER_DEAD = "/$deadletterqueue", "/$transfer/$deadletterqueue"
_SUBSCRIPTION = "/subscriptions/"

ONLY_QUEUES = "Not implemented: this broker has queues only, no topics, subscriptions or rules."


@dataclass(frozen=True, slots=True)
class Entity:
    """What an address names: a queue, or its dead letters."""

    queue: Queue
    is_dead: bool
    is_transfer: bool = False

    @property
    def box(self) -> Box:
        """The messages that are meant."""
        if self.is_transfer:
            return self.queue.transfer_dead
        return self.queue.dead if self.is_dead else self.queue.active


class Namespace:
    """The queues."""

    def __init__(
        self, store: Store, *, clock: Callable[[], int], declared: Iterable[QueueSettings]
    ) -> None:
        self.store = store
        self.clock = clock
        self.queues: dict[str, Queue] = {}
        now = clock()
        for settings in declared:
            self._open(replace(settings, created_ms=now, updated_ms=now))
        for name, text in store.made_queues():
            if name.lower() not in self.queues:
                self._open(QueueSettings(**json.loads(text)))
        store.commit()

    def _open(self, settings: QueueSettings) -> Queue:
        queue_id = self.store.queue_id(settings.name)
        queue = Queue(queue_id, settings, journal=self.store, clock=self.clock)
        self.store.load(queue)
        queue.recover()
        self.queues[settings.name.lower()] = queue
        return queue

    def find(self, path: str) -> Entity:
        """The entity of an address without scheme and host, in any case.

        Raises:
            BrokerError: there is none.
        """
        name = path.lower().strip("/")
        if _SUBSCRIPTION in name:
            raise BrokerError(Condition.NOT_IMPLEMENTED, f"{ONLY_QUEUES} Asked for: '{path}'.")
        is_transfer, is_dead = name.endswith(_TRANSFER_DEAD), name.endswith(_DEAD)
        queue = self.queues.get(name.removesuffix(_TRANSFER_DEAD).removesuffix(_DEAD))
        if queue is None:
            raise BrokerError(
                Condition.NOT_FOUND,
                f"The messaging entity '{path}' could not be found. Queues are declared in "
                "infra/queues.json or made through the administration endpoint; there are no topics.",
            )
        return Entity(queue, is_dead, is_transfer)

    def create(self, settings: QueueSettings) -> Queue:
        """Make a queue that stays until it is deleted.

        Raises:
            BrokerError: there is one of this name.
        """
        if settings.name.lower() in self.queues:
            raise BrokerError(Condition.EXISTS, f"Queue {settings.name} exists already.")
        queue = self._open(settings)
        self.store.keep_queue(queue.queue_id, json.dumps(asdict(settings)))
        return queue

    def update(self, settings: QueueSettings) -> Queue:
        """Give a queue other settings; they hold for what happens from now on."""
        queue = self.find(settings.name).queue
        queue.settings = settings
        self.store.keep_queue(queue.queue_id, json.dumps(asdict(settings)))
        return queue

    def delete(self, name: str) -> Queue:
        """Remove a queue with all its messages."""
        queue = self.find(name).queue
        del self.queues[queue.name.lower()]
        self.store.drop_queue(queue.queue_id)
        return queue

    def tick(self) -> None:
        """Do whatever is due in any queue."""
        now = self.clock()
        for queue in self.queues.values():
            due = queue.next_due()
            if due is not None and due <= now:
                queue.tick()

    def next_due(self) -> int | None:
        """When `tick` is needed next."""
        dues = (queue.next_due() for queue in self.queues.values())
        return min((due for due in dues if due is not None), default=None)


def read_declared(path: Path) -> list[QueueSettings]:
    """The queues of `infra/queues.json`.

    Raises:
        StackError: the file is missing or says something else.
    """
    try:
        entries = json.loads(path.read_bytes())["queues"]
        return [_declared(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{path} does not declare queues: {type(error).__name__}: {error}.",
            remedy="Each needs name, lock_duration_s, max_delivery_count, duplicate_window_s.",
            code=Code.BAD_INPUT,
        ) from error


def _declared(entry: dict) -> QueueSettings:
    known = {"name", "lock_duration_s", "max_delivery_count", "duplicate_window_s"}
    if unknown := set(entry) - known - {"requires_session", "default_ttl_s"}:
        raise ValueError(f"unknown fields {sorted(unknown)}")
    ttl_s = entry.get("default_ttl_s")
    return QueueSettings(
        name=entry["name"],
        lock_ms=int(entry["lock_duration_s"] * 1000),
        max_delivery_count=int(entry["max_delivery_count"]),
        duplicate_window_ms=int(entry["duplicate_window_s"] * 1000),
        requires_session=bool(entry.get("requires_session", False)),
        ttl_ms=None if ttl_s is None else int(ttl_s * 1000),
    )
