"""All queues, topics and subscriptions of the broker, by name, with their store and the one clock.

Queues come from `infra/queues.json`, which the cloud's templates read too, and everything from
the administration endpoint; a declared queue always has its declared settings after a start.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from local.errors import Code, StackError
from local.service_bus.core import Queue
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.filters.rule import DEFAULT, RuleText, Sql, from_json
from local.service_bus.filters.wire import compiled
from local.service_bus.forwarding import Router
from local.service_bus.model import AccessRule, QueueSettings
from local.service_bus.sas import path_of
from local.service_bus.topics import MAX_SUBSCRIPTIONS, Subscription, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from local.service_bus.box import Box
    from local.service_bus.filters.rule import Rule
    from local.service_bus.store import Store

_DEAD, _TRANSFER_DEAD = "/$deadletterqueue", "/$transfer/$deadletterqueue"
SUBSCRIPTIONS = "/Subscriptions/"
MAX_ENTITIES = 10_000  # queues and topics of a namespace, in the table of quotas


@dataclass(frozen=True, slots=True)
class Entity:
    """What an address names: a queue, a topic, a subscription, or dead letters of one."""

    queue: Queue
    is_dead: bool
    is_transfer: bool = False

    @property
    def box(self) -> Box:
        """The messages that are meant."""
        if self.is_transfer:
            return self.queue.transfer_dead
        return self.queue.dead if self.is_dead else self.queue.active

    @property
    def is_forwarded(self) -> bool:
        """Whether what comes here goes on by itself, so that nobody can receive it."""
        settings = self.queue.settings
        if self.is_transfer:
            return False
        return bool(settings.forward_dead_to if self.is_dead else settings.forward_to)


class Namespace:
    """The queues, topics and subscriptions."""

    def __init__(
        self, store: Store, *, clock: Callable[[], int], declared: Iterable[QueueSettings]
    ) -> None:
        self.store = store
        self.clock = clock
        self.entities: dict[str, Queue] = {}  # by path in lower case
        self.on_deleted: Callable[[Queue], None] = lambda _queue: None
        self._router = Router(self._target)
        now = clock()
        for settings in declared:
            self._open("queue", replace(settings, created_ms=now, updated_ms=now))
        kept = [(name, json.loads(text)) for name, text in store.made_queues()]
        orphans = [
            n for n, d in kept if n.lower() not in self.entities and not self._reopen(n, d)
        ]
        self.tick()
        self.move()
        store.commit()
        for name in orphans:
            store.drop_queue(store.queue_id(name))

    def _reopen(self, name: str, description: dict[str, Any]) -> bool:
        """Open what was made in an earlier run; False: its topic was deleted, and it was next."""
        if "kind" not in description:  # as queues were kept before there was anything else
            description = {"kind": "queue", "settings": description}
        topic = name.lower().partition(SUBSCRIPTIONS.lower())[0]
        if description["kind"] == "subscription" and topic not in self.entities:
            return False
        rules = [compiled(from_json(rule)) for rule in description.get("rules", ())]
        self._open(description["kind"], _settings(description["settings"]), rules)
        return True

    def _open(self, kind: str, settings: QueueSettings, rules: Iterable[Rule] = ()) -> Queue:
        queue_id, path = self.store.queue_id(settings.name), settings.name.lower()
        ports: dict[str, Any] = {"journal": self.store, "clock": self.clock}
        if kind == "topic":
            queue = Topic(queue_id, settings, **ports)
        elif kind == "subscription":
            topic = self.topic(path.partition(SUBSCRIPTIONS.lower())[0])
            queue = Subscription(queue_id, settings, **ports, topic=topic)
            queue.rules = {rule.name.lower(): rule for rule in rules}
            topic.subscriptions[queue.own_name.lower()] = queue
        else:
            queue = Queue(queue_id, settings, **ports)
        self.store.load(queue)
        self.entities[path] = queue
        queue.recover()
        self._router.connect(queue)
        return queue

    # --- finding

    @property
    def queues(self) -> list[Queue]:
        """The queues, in order of their names."""
        return sorted((q for q in self.entities.values() if type(q) is Queue), key=_by_name)

    @property
    def topics(self) -> list[Topic]:
        """The topics, in order of their names."""
        return sorted((t for t in self.entities.values() if isinstance(t, Topic)), key=_by_name)

    def find(self, path: str) -> Entity:
        """The entity of an address without scheme and host, in any case.

        Raises:
            BrokerError: there is none.
        """
        name = path.lower().strip("/")
        is_transfer, is_dead = name.endswith(_TRANSFER_DEAD), name.endswith(_DEAD)
        queue = self.entities.get(name.removesuffix(_TRANSFER_DEAD).removesuffix(_DEAD))
        if queue is None or (is_dead and isinstance(queue, Topic)):
            raise BrokerError(
                Condition.NOT_FOUND,
                f"The messaging entity '{path}' could not be found. Queues are declared in "
                "infra/queues.json or made, as topics are, through the administration endpoint.",
            )
        return Entity(queue, is_dead, is_transfer)

    def topic(self, name: str) -> Topic:
        """A topic by its name.

        Raises:
            BrokerError: there is none.
        """
        found = self.entities.get(name.lower())
        if not isinstance(found, Topic):
            raise BrokerError(Condition.NOT_FOUND, f"There is no topic '{name}'.")
        return found

    def access_rules(self, path: str) -> Iterable[AccessRule]:
        """The keys of the entity of this path, and of what it belongs to."""
        parts = path.lower().strip("/").split("/")
        for length in range(1, len(parts) + 1):
            if (found := self.entities.get("/".join(parts[:length]))) is not None:
                yield from found.settings.rules

    def _target(self, name: str) -> Queue | None:
        """What messages can be forwarded to."""
        found = self.entities.get(name.lower().strip("/"))
        return None if isinstance(found, Subscription) else found

    # --- making, changing, deleting

    def create(
        self, settings: QueueSettings, *, kind: str = "queue", rules: Iterable[Rule] = ()
    ) -> Queue:
        """Make a queue, topic or subscription that stays until it is deleted.

        Raises:
            BrokerError: there is one of this name, or it cannot be made.
        """
        if settings.name.lower() in self.entities:
            raise BrokerError(Condition.EXISTS, f"'{settings.name}' exists already.")
        self._check_forwarding(settings)
        if kind == "subscription":
            topic = self.topic(settings.name.partition(SUBSCRIPTIONS)[0])
            if len(topic.subscriptions) >= MAX_SUBSCRIPTIONS:
                raise BrokerError(
                    Condition.FULL, f"A topic has at most {MAX_SUBSCRIPTIONS} subscriptions."
                )
            rules = list(rules) or [default_rule(self.clock())]
        elif len(self.entities) >= MAX_ENTITIES:
            raise BrokerError(Condition.FULL, f"At most {MAX_ENTITIES} entities are possible.")
        queue = self._open(kind, settings, rules)
        self._keep(queue)
        return queue

    def update(self, settings: QueueSettings) -> Queue:
        """Give an entity other settings; they hold for what happens from now on."""
        queue = self.find(settings.name).queue
        self._check_forwarding(settings)
        queue.settings = settings
        queue.used_ms = self.clock()
        self._router.connect(queue)
        self._keep(queue)
        return queue

    def _check_forwarding(self, settings: QueueSettings) -> None:
        for address in (settings.forward_to, settings.forward_dead_to):
            name = path_of(address).strip("/")
            if not name:
                continue
            if name.lower() == settings.name.lower():
                raise BrokerError(Condition.ARGUMENT, f"'{name}' cannot forward to itself.")
            if self._target(name) is None:
                raise BrokerError(
                    Condition.ARGUMENT, f"The destination '{name}' is no queue and no topic."
                )

    def put_rule(self, subscription: Subscription, rule: Rule) -> None:
        """Add a rule, or put it in the place of the one of this name."""
        key = rule.name.lower()
        if key not in subscription.rules:
            subscription.topic.check_rules(rule)
        subscription.rules[key] = rule
        subscription.used_ms = self.clock()
        self._keep(subscription)

    def delete_rule(self, subscription: Subscription, name: str) -> None:
        """Remove a rule.

        Raises:
            BrokerError: there is none of this name.
        """
        if subscription.rules.pop(name.lower(), None) is None:
            raise BrokerError(Condition.NOT_FOUND, f"There is no rule '{name}'.")
        self._keep(subscription)

    def _keep(self, queue: Queue) -> None:
        kind = "queue"
        description: dict[str, Any] = {"settings": asdict(queue.settings)}
        if isinstance(queue, Topic):
            kind = "topic"
        elif isinstance(queue, Subscription):
            kind = "subscription"
            description["rules"] = [rule.text.as_json() for rule in queue.rules.values()]
        self.store.keep_queue(queue.queue_id, json.dumps({"kind": kind, **description}))

    def delete(self, name: str) -> None:
        """Remove an entity with all its messages; a topic with its subscriptions."""
        queue = self.find(name).queue
        self.move()  # what is under way is part of what the store writes next
        self._forget(queue)
        if isinstance(queue, Topic):
            for subscription in queue.subscriptions.values():
                self._forget(subscription)
        if isinstance(queue, Subscription):
            del queue.topic.subscriptions[queue.own_name.lower()]

    def _forget(self, queue: Queue) -> None:
        del self.entities[queue.name.lower()]
        self.store.drop_queue(queue.queue_id)
        self.on_deleted(queue)

    # --- time

    def move(self) -> None:
        """Carry out what is to be forwarded; before each commit."""
        self._router.move()

    def tick(self) -> None:
        """Do whatever is due anywhere, and delete what stood unused for too long."""
        now = self.clock()
        idle = []
        for queue in self.entities.values():
            due = queue.next_due()
            if due is not None and due <= now:
                queue.tick()
                if queue.is_idle(now):
                    idle.append(queue)
        for queue in idle:
            if queue.name.lower() in self.entities:  # not gone with its topic
                self.delete(queue.name)

    def next_due(self) -> int | None:
        """When `tick` is needed next."""
        dues = (queue.next_due() for queue in self.entities.values())
        return min((due for due in dues if due is not None), default=None)


def default_rule(now: int) -> Rule:
    """The rule of a new subscription: everything."""
    return compiled(
        RuleText(name=DEFAULT, kind="TrueFilter", sql=Sql(text="1=1"), created_ms=now)
    )


def _by_name(queue: Queue) -> str:
    return queue.name.lower()


def _settings(kept: dict[str, Any]) -> QueueSettings:
    rules = tuple(
        AccessRule(**{**rule, "rights": tuple(rule["rights"])})
        for rule in kept.get("rules", ())
    )
    return QueueSettings(**{**kept, "rules": rules})


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
