"""A namespace without sockets, on a clock that is moved by hand and a store that can be left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.service_bus.errors import BrokerError
from local.service_bus.filters.rule import RuleText, Sql
from local.service_bus.filters.wire import compiled
from local.service_bus.model import QueueSettings
from local.service_bus.namespace import Namespace, default_rule
from local.service_bus.store import MemoryStore, SqliteStore
from local.service_bus.topics import Subscription, Topic
from tests.local.service_bus.rig import LOCK_MS, Clock, Consumer, raw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from local.service_bus.core import Queue
    from local.service_bus.errors import Condition
    from local.service_bus.filters.rule import Rule
    from local.service_bus.model import Message


class World:
    """A namespace; with a file it survives `crash`."""

    def __init__(self, path: Path | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.store = MemoryStore() if path is None else SqliteStore(path)
        self.namespace = Namespace(self.store, clock=self.clock, declared=[])

    def queue(self, name: str, **what: Any) -> Queue:
        """A new queue."""
        return self.namespace.create(_settings(name, **what))

    def topic(self, name: str, **what: Any) -> Topic:
        """A new topic."""
        topic = self.namespace.create(_settings(name, **what), kind="topic")
        assert isinstance(topic, Topic)
        return topic

    def subscription(
        self, topic: str, name: str, rules: Iterable[Rule] = (), **what: Any
    ) -> Subscription:
        """A new subscription; without rules it gets everything."""
        settings = _settings(f"{topic}/Subscriptions/{name}", **what)
        rules = list(rules) or [default_rule(0)]
        made = self.namespace.create(settings, kind="subscription", rules=rules)
        assert isinstance(made, Subscription)
        return made

    def send(self, name: str, text: str, **what: Any) -> int:
        """Send a message, and end the turn; says its number."""
        [number] = self.namespace.find(name).queue.send([raw(text, **what)])
        self.turn()
        return number

    def turn(self) -> None:
        """What the server does before it writes."""
        self.namespace.move()
        self.namespace.store.commit()

    def pass_ms(self, ms: int) -> None:
        """Let time pass, with a tick wherever one is due."""
        end = self.clock.now + ms
        while (due := self.namespace.next_due()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            self.namespace.tick()
            self.turn()
        self.clock.now = end

    def receive(self, name: str, count: int = 100) -> Consumer:
        """Take up to so many messages away from an address."""
        box = self.namespace.find(name).box
        consumer = Consumer(credit=count, removes=True)
        box.hungry(consumer)
        box.leave(consumer)
        self.turn()
        return consumer

    def bodies(self, name: str) -> list[str]:
        """Take everything away, and say the texts."""
        return self.receive(name).bodies

    def crash(self, path: Path) -> World:
        """Kill -9, and the next start; what was not committed is lost."""
        assert isinstance(self.store, SqliteStore)
        self.store.abandon()
        return World(path, self.clock)


def _settings(name: str, **what: Any) -> QueueSettings:
    return QueueSettings(**{"name": name, "lock_ms": LOCK_MS, "max_delivery_count": 3, **what})


def sql(name: str, text: str, action: str | None = None) -> Rule:
    """A rule with an SQL filter."""
    return compiled(
        RuleText(
            name=name,
            kind="SqlFilter",
            sql=Sql(text=text),
            action=None if action is None else Sql(text=action),
        )
    )


def refused(condition: Condition) -> pytest.RaisesExc[BrokerError]:
    """What a refusal with this condition is."""
    return pytest.RaisesExc(BrokerError, check=lambda error: error.condition is condition)


def held(world: World, name: str) -> list[Message]:
    """What lies at an address, without taking it."""
    return list(world.namespace.find(name).box.messages.values())


def a_topic(world: World, *subscriptions: str, **what: object) -> World:
    """This world with a topic `t` and subscriptions that get everything."""
    world.topic("t", **what)
    for name in subscriptions:
        world.subscription("t", name)
    return world
