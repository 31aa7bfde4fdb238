"""Steps a second of one worker, with 20 ms of I/O for every call of a port; beside it DBOS.

The runner and the steps are the shipped ones. The ports are the tests' fakes, each call of which
first waits as a call over a network would; the queue hands sixteen messages at a time to the
functions, as `host.json` tells the host. Time that a step only waits for the platform is jumped
over, so the seconds are the worker's own.

Twice: openings as they are, all paid at once; and the same number of steps of which each does one
call, which DBOS then does too, a workflow for each operation, on a PostgreSQL of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from bench import by_dbos, kit
from bench.kit import Figure
from provisioning.admit import Incoming, admit
from provisioning.plans import PLANS
from spaces.messages import Poke
from spaces.model import OpKind, Status
from spaces.ports import Message
from spaces.saga.outcomes import Done
from spaces.saga.outline import OUTLINES, bind
from spaces.saga.runner import advance
from spaces.settings import settings
from tests.builders import a_billing_event, some_environment
from tests.fakes import space_app
from tests.provisioning.world import ZONES, World, _outputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from spaces.ports import Ports, StackRequest
    from spaces.saga.outcomes import Outcome, Plans, Work

OPERATIONS = 1_000
IO_S = 0.02
AT_ONCE = 16
STEPS_GOAL = 50.0
ONE = "http://one:8080"
_of_message: ContextVar[Counter[str]] = ContextVar("of_message")
_PORTS = ("tables", "bus", "arm", "databases", "secrets", "edge", "accounts")


def measure() -> list[Figure]:
    """Openings, plain steps, DBOS: in turn, in one process."""
    with _alone():
        opened = asyncio.run(_run(PLANS))
        plain = asyncio.run(_run(_plain()))
    figures = _own("openings", opened, STEPS_GOAL) + _own(
        "steps of one call", plain, STEPS_GOAL
    )
    figures += [
        Figure(
            "… durable round trips of a step",
            (plain.calls["tables"] + plain.calls["bus"]) / plain.steps,
            "",
            note="table requests and sends, the events' and the operation's own included;"
            " beside them the host settles each message",
        ),
        Figure(
            "… table requests of a step, median",
            kit.median(plain.tables),
            "",
            2,
            at_least=False,
            note=f"{min(plain.tables)} to {max(plain.tables)}: the last also sees what comes next",
        ),
    ]
    return figures + by_dbos.figures(
        OPERATIONS, plain.steps // OPERATIONS, io_s=IO_S, at_once=AT_ONCE, ours=plain.rate
    )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """The settings of the fakes' estate for the steps, and no log lines."""
    before, log = dict(os.environ), logging.getLogger("kpax")
    os.environ.update(some_environment())
    settings.cache_clear()
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        settings.cache_clear()
        log.setLevel(logging.NOTSET)


@dataclass(slots=True)
class Run:
    """What one worker did."""

    operations: int = 0
    ended_well: int = 0
    steps: int = 0
    took_s: float = 0.0
    processor_s: float = 0.0
    most_under_way: int = 0
    calls: dict[str, int] = field(default_factory=dict[str, int])
    tables: list[int] = field(default_factory=list[int])
    """Table requests of each message of a step."""

    @property
    def rate(self) -> float:
        """Steps a second."""
        return self.steps / self.took_s


def _own(what: str, run: Run, goal: float) -> list[Figure]:
    told = ", ".join(f"{name} {count / run.steps:.1f}" for name, count in run.calls.items())
    return [
        Figure(
            f"{what}: steps a second of one worker",
            run.rate,
            "1/s",
            goal,
            note=f"{run.operations} operations, {run.steps} steps in {run.took_s:.0f} s",
        ),
        Figure("… operations under way at once", run.most_under_way, "", OPERATIONS),
        Figure("… ended well", run.ended_well, "", run.operations),
        Figure("… processor time of a step", 1_000 * run.processor_s / run.steps, "ms"),
        Figure(
            "… calls of ports, for each step",
            sum(run.calls.values()) / run.steps,
            "",
            note=f"{1_000 * IO_S:.0f} ms each: {told}",
        ),
    ]


def _plain() -> Plans:
    """The steps of an opening, each with one call."""
    outline = OUTLINES[OpKind.PROVISION]

    async def act(ports: Ports, work: Work) -> Outcome:
        await ports.edge.request("GET", f"{ONE}/healthz")
        return Done(detail=work.op.step)

    names = [stage.name for stage in outline.steps]
    undone = [stage.name for stage in outline.steps if stage.undo]
    plan = bind(outline, dict.fromkeys(names, act), dict.fromkeys(undone, act))
    return {**PLANS, plan.kind: plan}


async def _run(plans: Plans) -> Run:
    world = World()
    lane, run = Lane(world), Run()
    slow = {
        name: Slow(lane if name == "bus" else getattr(world.bare, name), name, run.calls)
        for name in _PORTS
    }
    ports: Ports = replace(world.bare, **slow)
    world.edge.serve(ONE, space_app(space_id="s-one", zones=("1",)))
    spaces = [await _paid(world, lane, number) for number in range(OPERATIONS)]
    began, processor = time.monotonic(), time.process_time()
    await asyncio.gather(*(_work(world, ports, lane, plans, run) for _ in range(AT_ONCE)))
    run.took_s, run.processor_s = time.monotonic() - began, time.process_time() - processor
    run.operations, run.most_under_way = len(spaces), lane.most_under_way
    for space_id in spaces:
        space = await world.space(space_id)
        run.ended_well += space.status is Status.ACTIVE and space.op is None
    run.steps = run.ended_well * len(plans[OpKind.PROVISION].steps)
    return run


async def _paid(world: World, lane: Lane, number: int) -> str:
    """An order whose paid event stands in the queue."""
    order = await world.order(name=f"space-{number}", key=f"k-{number}")
    event = a_billing_event(
        order_id=order.order_id, subject=f"sub-{number}", event_id=f"evt-{number}"
    )
    await lane.send([Message(queue="billing-events", message_id=f"m-{number}", body=event)])
    return order.space_id


async def _work(world: World, ports: Ports, lane: Lane, plans: Plans, run: Run) -> None:
    """One of the worker's slots, until nothing is left; a failed message is an error here."""
    while (item := await lane.take()) is not None:
        if item.queue == "billing-events":
            incoming = Incoming(
                body=item.body.encode(),
                message_id=item.message_id,
                sequence_number=0,
                first_seen=world.clock.now(),
            )
            await admit(ports, world.settings, incoming)
        else:
            poke = msgspec.json.decode(item.body, type=Poke)
            _of_message.set(counted := Counter[str]())
            await advance(ports, plans, poke, message_id=item.message_id, floor_s=0.5)
            run.tables.append(counted["tables"])
            _react(world, poke)
        lane.done(item)


def _react(world: World, poke: Poke) -> None:
    """What the platform does by itself: machines start with their stack, and serve."""
    name = f"{poke.space_id}-1"
    if name not in world.arm.names():
        return
    request: StackRequest = world.arm.request(name)
    outputs, zones = _outputs(request), ZONES[str(request.parameters["plan"])]
    world.arm.start_machines(str(outputs["resourceGroup"]), str(outputs["scaleSet"]), zones)
    site = space_app(
        space_id=poke.space_id, release=str(request.parameters["release"]), zones=zones
    )
    world.edge.serve(f"http://{request.parameters['hostName']}:8080", site)


class Slow:
    """A port whose calls wait as over a network, and are counted."""

    def __init__(self, port: Any, name: str, calls: dict[str, int]) -> None:  # noqa: ANN401 — any port
        self._port, self._name, self._calls = port, name, calls

    def __getattr__(self, call: str) -> Any:  # noqa: ANN401 — as the port has it
        found = getattr(self._port, call)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def waited(*args: Any, **named: Any) -> Any:  # noqa: ANN401 — as the port has it
            self._calls[self._name] = self._calls.get(self._name, 0) + 1
            _of_message.get(Counter())[self._name] += 1
            await asyncio.sleep(IO_S)
            return await found(*args, **named)

        return waited


class Lane:
    """A queue that many messages pass quickly: in order of their time, each id once.

    When all slots wait for what is due later, the clock goes there.
    """

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._heap: list[tuple[datetime, int, Message]] = []
        self._number = itertools.count()
        self._seen: set[str] = set()
        self._under_way: dict[str, int] = {}
        self._in_hand = 0
        self._changed = asyncio.Event()
        self.most_under_way = 0

    async def send(self, messages: Sequence[Message]) -> None:
        """Take what work is; events for others go nowhere."""
        now = self._clock.now()
        for one in messages:
            if one.queue == "space-events" or one.message_id in self._seen:
                continue
            self._seen.add(one.message_id)
            heapq.heappush(self._heap, (one.due_at or now, next(self._number), one))
            self._count(one, 1)
        self._changed.set()

    async def take(self) -> Message | None:
        """The next message; None when there is none and nobody works on one."""
        while True:
            if self._heap and (self._heap[0][0] <= self._clock.now() or not self._in_hand):
                due, _, message = heapq.heappop(self._heap)
                self._clock.set(max(due, self._clock.now()))
                self._in_hand += 1
                return message
            if not self._heap and not self._in_hand:
                return None
            self._changed.clear()
            await self._changed.wait()

    def done(self, message: Message) -> None:
        """It is settled."""
        self._in_hand -= 1
        self._count(message, -1)
        self._changed.set()

    def _count(self, message: Message, by: int) -> None:
        """How many operations have a message, waiting or in hand."""
        if message.queue == "billing-events":
            return
        op = msgspec.json.decode(message.body, type=Poke).op_id
        self._under_way[op] = self._under_way.get(op, 0) + by
        if not self._under_way[op]:
            del self._under_way[op]
        self.most_under_way = max(self.most_under_way, len(self._under_way))
