"""A seeded campaign: several workers interleaved at every port call, on a bad day.

One thread, one virtual clock, one source of chance per seed. A worker is one run of a real handler;
it stops before each port call until the scheduler lets it go on. A crash is a worker that is never
let go on again; a lost lock is a message that a second worker gets while the first goes on. The same
seed gives the same run.
"""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from provisioning import orders
from spaces.errors import KpaxError, RefusedError, ThrottledError, TransientError, UnknownError
from spaces.saga.sweep import sweep
from tests.builders import a_billing_event
from tests.fakes import Received, Script, space_app
from tests.provisioning.campaign_parts import Day, Gated, Ordered, WatchedTables, Worker
from tests.provisioning.invariants import Progress, check
from tests.provisioning.world import GRACE_S, ZONES, World, _outputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spaces.ports import Ports

MOST_WORKERS = 4
MOST_STEPS = 20_000
CALLER = "key:default"
QUEUES = ("billing-events", "provisioning-steps")
PORTS = ("tables", "bus", "arm", "databases", "secrets", "edge", "accounts")
# Calls whose effect can be there although their answer was lost.
UNSURE = {"commit": UnknownError, "put_stack": UnknownError, "delete_stack": UnknownError}

_worker: ContextVar[Worker] = ContextVar("worker")


class Campaign(World):
    """One seed: `run`, which raises `AssertionError` with the trace's end when a rule is broken.

    `sweeper=False` is a day on which no message is lost and nobody sweeps: what the messages and
    the outbox heal by themselves.
    """

    def __init__(
        self,
        seed: int,
        *,
        wrap: Callable[[Ports], Ports] | None = None,
        sweeper: bool = True,
    ) -> None:
        super().__init__()
        self.chance = random.Random(seed)  # noqa: S311 - the same run for the same seed
        self.day = Day.drawn(self.chance)
        self.sweeper = sweeper
        if not sweeper:
            self.day.lost_messages = self.day.sweeps = self.day.outages = 0
            self.day.errors = min(self.day.errors, 4 - self.day.crashes - self.day.lost_locks)
        self.progress = Progress()
        self.trace: list[str] = []
        self.workers: list[Worker] = []
        self.handled: list[Received] = []
        self.abandoned: list[asyncio.Task[object]] = []
        self.to_send: list[tuple[Ordered, str, str]] = []
        self.had_outage = False
        # An event may overtake its order by a moment, and only by one (two minutes, then rejected).
        self.may_overtake = self.day.outages == 0 and self.day.seconds < 100
        self.orders: list[Ordered] = []
        self.is_calm = False
        self._served: set[str] = set()
        self._started = self.clock.now()
        self.bare = replace(self.bare, tables=WatchedTables(self.progress))
        self.registry = type(self.registry)(self.bare.tables)
        inner = wrap(self.bare) if wrap else self.bare
        self.ports = replace(
            inner, **{name: Gated(getattr(inner, name), self) for name in PORTS}
        )

    async def run(self) -> None:
        """Chaos until the day is over, then calm until nothing more happens; then look."""
        self._draw_orders()
        try:
            await self._chaos()
            self.is_calm = True
            await self._calm()
            await check(self)
        except AssertionError as error:
            error.add_note(f"{self.day}\n" + "\n".join(self.trace[-80:]))
            raise
        finally:
            await self._bury()

    async def call(self, name: str, target: Any, args: Any, kwargs: Any) -> Any:
        """One port call of a worker: wait for the turn, then happen, perhaps badly."""
        worker = _worker.get()
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        worker.gates.append(gate)
        await gate
        self._react()
        fault = self._fault(name)
        self.trace.append(f"{worker.name} {name} {fault or ''}{_brief(name, args)}")
        if fault == "throttled":
            raise ThrottledError("too many", retry_after_s=1.0)
        if fault == "transient":
            raise TransientError("nobody answers")
        result = await target(*args, **kwargs)
        if name == "put_stack":
            self._heal(args[0].name)
        if fault == "repeated":  # an HTTP client sent it twice: the second meets the first
            await target(*args, **kwargs)
        if fault == "unsure":
            raise UNSURE.get(name, TransientError)("the answer was lost")
        return result

    # --- the day

    def _draw_orders(self) -> None:
        chance = self.chance
        for number in range(chance.choice((1, 1, 2))):
            key, name = f"k-{number}", f"acme-{number}"
            order_id, space_id = orders.ids_of(CALLER, key)
            script = Script(
                duration_s=chance.choice((0.0, 2.0, 20.0)),
                delete_s=chance.choice((0.0, 3.0)),
                retry_after_s=chance.choice((0.5, 1.0, 5.0)),
                failure=chance.choice(
                    (None, None, None, ("ServerIsBusy", "not now"), ("InvalidTemplate", "no"))
                ),
            )
            ordered = Ordered(
                key=key,
                name=name,
                newest=0,
                request=self.order_request(name=name, jti=f"jti-{number}"),
                script=script,
                space_id=space_id,
                order_id=order_id,
            )
            self.arm.scripts[f"{space_id}-1"] = script
            self.orders.append(ordered)
            self._draw_events(ordered)
        chance.shuffle(self.to_send)

    def _draw_events(self, ordered: Ordered) -> None:
        """Some of a subscription's life, copies among it; only the first must name the order."""
        chance = self.chance
        life = [("activated", "active", "standard")]
        if chance.random() < 0.3:
            life.insert(0, ("created", "trialing", "standard"))
        if chance.random() < 0.4:
            life.append(("plan_changed", "active", chance.choice(("premium", "starter"))))
        if chance.random() < 0.3:
            life.append(("suspended", "suspended", "standard"))
            life.append(("resumed", "active", "standard"))
        if chance.random() < 0.15:
            life = [("created", "trialing", "standard")]  # announced, and never paid
        ordered.newest = len(life)
        names_order = chance.random() < 0.5
        for sequence, (kind, status, plan) in enumerate(life, start=1):
            body = a_billing_event(
                sequence=sequence,
                kind=kind,
                status=status,
                plan=plan,
                event_id=f"e-{ordered.key}-{sequence}",
                subject=f"sub-{ordered.key}",
                order_id=ordered.order_id if sequence == 1 or names_order else None,
            )
            copies = chance.choice((1, 1, 2, 3))
            self.to_send += [
                (ordered, body, f"m-{ordered.key}-{sequence}-{copy}") for copy in range(copies)
            ]

    def _heal(self, stack: str) -> None:
        script = self.arm.scripts.get(stack)
        if script is not None and script.failure and script.failure[0] == "ServerIsBusy":
            self.arm.scripts[stack] = replace(script, failure=None)

    def _react(self) -> None:
        for name in self.arm.names():
            request = self.arm.request(name)
            version = f"{name}:{request.parameters['plan']}"
            if version in self._served:
                continue
            self._served.add(version)
            told, outputs = request.parameters, _outputs(request)
            zones = ZONES[str(told["plan"])]
            group, scale_set = str(outputs["resourceGroup"]), str(outputs["scaleSet"])
            self.arm.start_machines(group, scale_set, zones)
            self.edge.serve(
                f"http://{told['hostName']}:8080",
                space_app(
                    space_id=str(told["spaceId"]), release=str(told["release"]), zones=zones
                ),
            )

    # --- the scheduler

    async def _chaos(self) -> None:
        for ordered in self.orders:
            self._start_order(ordered)
        for _ in range(self.chance.randint(50, 400)):
            await self._turn()
            self._misfortune()
            if not self._go_on() and not self._begin_something():
                self._jump()

    async def _calm(self) -> None:
        """No more faults: all that is left happens, in the scheduler's order."""
        until = self.clock.now() + timedelta(hours=5)
        swept_at = self.clock.now()
        for _ in range(MOST_STEPS):
            await self._turn()
            if self.chance.random() < 0.01:
                self._wake_one()
            if self._go_on() or self._begin_something():
                continue
            if self.sweeper and self.clock.now() >= swept_at + timedelta(seconds=60):
                swept_at = self.clock.now()
                self._launch("sweep", sweep(self.ports, grace_s=GRACE_S))
                continue
            if self._is_over():
                if not self._wake_one():
                    return
                continue
            assert self.clock.now() < until, "the estate does not come to rest"
            self._advance(self._until_something())
        raise AssertionError("more steps than any clean run needs")

    def _wake_one(self) -> bool:
        asleep = [worker for worker in self.workers if worker.is_asleep]
        if asleep:
            self.trace.append(f"{asleep[0].name} wakes up")
            asleep[0].is_asleep = False
        return bool(asleep)

    def _is_over(self) -> bool:
        """Nothing stands in a queue, and nobody is watched where there is a sweeper."""
        if self.to_send:
            return False
        busy = any(queue.waiting or queue.locked or queue.scheduled for queue in self._queues())
        watched = self.bare.tables.rows("activeops")  # pyright: ignore[reportAttributeAccessIssue]
        return not busy and not (self.sweeper and watched)

    def _queues(self) -> list[Any]:
        return [self.bus._queues[name] for name in QUEUES]

    def _until_something(self) -> float:
        due = self.bus.next_due()
        wait = (due - self.clock.now()).total_seconds() if due is not None else 31.0
        return min(max(wait, 0.001), 31.0)

    async def _turn(self) -> None:
        """Let every released worker come to its next port call, and see who has ended."""
        for _ in range(5):
            await asyncio.sleep(0)
        for worker in [each for each in self.workers if each.task and each.task.done()]:
            self.workers.remove(worker)
            self._ended(worker)

    def _go_on(self) -> bool:
        """Let one waiting worker make its call; false where nobody waits, or chance says no."""
        waiting = [worker for worker in self.workers if worker.gates and not worker.is_asleep]
        if not waiting or (self.chance.random() < 0.12 and not self.is_calm):
            return False
        worker = self.chance.choice(waiting)
        gate = worker.gates.pop(self.chance.randrange(len(worker.gates)))
        gate.set_result(None)
        return True

    def _begin_something(self) -> bool:
        """Start a worker on a message, or put one more event on its queue."""
        if self.to_send and self.chance.random() < 0.3:
            ordered, body, message_id = self.to_send.pop()
            if not (ordered.placed or ordered.refused or self.may_overtake):
                self.to_send.insert(0, (ordered, body, message_id))
                return False
            self._launch(f"billing-system {message_id}", self.send(body, message_id=message_id))
            return True
        if len([each for each in self.workers if not each.is_asleep]) >= MOST_WORKERS:
            return False
        for queue in self.chance.sample(QUEUES, len(QUEUES)):
            for item in self.bus.receive(queue):
                self._deliver(item)
                return True
        return False

    def _deliver(self, item: Received, *, is_late: bool = False) -> None:
        handle = self._on_billing if item.queue == "billing-events" else self._on_step
        name = f"{item.message.message_id}{' again' if is_late else ''}"
        worker = self._launch(name, handle(item))
        worker.item, worker.is_late = item, is_late

    def _start_order(self, ordered: Ordered) -> None:
        place = orders.place(
            self.ports, self.settings, ordered.request, caller=CALLER, key=ordered.key
        )
        worker = self._launch(f"order {ordered.key}", place)
        assert worker.task is not None
        worker.task.add_done_callback(lambda task: self._order_ended(ordered, task))

    def _order_ended(self, ordered: Ordered, task: asyncio.Task[object]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        ordered.placed = True

    def _launch(self, name: str, work: Awaitable[object]) -> Worker:
        worker = Worker(name)
        token = _worker.set(worker)
        worker.task = asyncio.ensure_future(work)  # the task's context keeps its worker
        _worker.reset(token)
        self.workers.append(worker)
        self.trace.append(f"-- {name} begins at {self._elapsed():.1f}")
        return worker

    def _ended(self, worker: Worker) -> None:
        error = worker.task.exception() if worker.task else None
        if error is not None:
            self.trace.append(f"{worker.name} raised {error!r}")
        assert error is None or isinstance(error, KpaxError), f"a defect: {error!r}"
        if worker.name.startswith("order ") and error is not None:
            self._retry_order(worker.name, error)
        item = worker.item
        if item is None or worker.is_late:
            return
        self.handled.append(item)
        try:
            if error is None:
                self.bus.complete(item)
            else:
                self.bus.abandon(item)
        except LookupError:
            self.trace.append(f"{worker.name} had lost its lock")

    def _retry_order(self, name: str, error: BaseException | None = None) -> None:
        """The customer's side sends the same request again, unless it was refused."""
        for ordered in self.orders:
            if name == f"order {ordered.key}":
                ordered.refused = isinstance(error, RefusedError)
                if not ordered.refused:
                    self._start_order(ordered)

    # --- faults

    def _misfortune(self) -> None:
        if self.is_calm or self.chance.random() > 0.06:
            return
        kind = self.chance.choice(
            ("crashes", "lost_locks", "lost_messages", "late_deliveries", "sweeps", "outages")
        )
        left = getattr(self.day, kind)
        if left > 0 and getattr(self, f"_{kind}")():
            setattr(self.day, kind, left - 1)
            self.trace.append(f"** {kind}")

    def _fault(self, name: str) -> str | None:
        """What goes wrong with this call, if anything."""
        if self.is_calm or self.day.errors <= 0 or self.chance.random() > 0.03:
            return None
        self.day.errors -= 1
        kinds = ["throttled", "transient"]
        if name in UNSURE or name == "send":
            kinds += ["unsure", "unsure"]
        if name == "commit":
            kinds.append("repeated")
        return self.chance.choice(kinds)

    def _crashes(self) -> bool:
        if not self.workers:
            return False
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        self._dies(worker)
        return True

    def _dies(self, worker: Worker) -> None:
        self.trace.append(f"{worker.name} died")
        if worker.task is not None:
            self.abandoned.append(worker.task)
        self._retry_order(worker.name)

    def _lost_locks(self) -> bool:
        """A message becomes visible again while its worker goes on."""
        held = [worker for worker in self.workers if worker.item and not worker.is_late]
        if not held:
            return False
        worker = self.chance.choice(held)
        assert worker.item is not None
        worker.item.locked_until = self.clock.now()
        if self.chance.random() < 0.6:
            worker.is_asleep = True
            self.trace.append(f"{worker.name} falls asleep")
        return True

    def _lost_messages(self) -> bool:
        queue = self._queues()[1]
        there = queue.waiting or queue.scheduled
        if not there:
            return False
        lost = there.pop(self.chance.randrange(len(there)))
        self.trace.append(f"lost {lost.message.message_id}")
        return True

    def _late_deliveries(self) -> bool:
        if not self.handled:
            return False
        self._deliver(self.chance.choice(self.handled), is_late=True)
        return True

    def _sweeps(self) -> bool:
        self._launch("sweep", sweep(self.ports, grace_s=GRACE_S))
        return True

    def _outages(self) -> bool:
        """Every process ends; nobody is there for a while; the platform goes on."""
        self.had_outage = True
        gone, self.workers = self.workers, []
        for worker in gone:
            self._dies(worker)
        self._advance(self.chance.choice((60.0, 600.0, 7200.0)), renew=False)
        return True

    def _jump(self) -> None:
        """Some time passes while the workers stand where they are."""
        seconds = self.chance.choice((0.1, 0.5, 1.0, 5.0, 31.0))
        if self._elapsed() + seconds <= self.day.seconds:
            self._advance(seconds)

    def _advance(self, seconds: float, *, renew: bool = True) -> None:
        now = self.clock.advance(seconds)
        for worker in self.workers:
            item = worker.item
            if (
                renew
                and not worker.is_asleep
                and item is not None
                and (item.locked_until or now) > now - timedelta(seconds=seconds)
            ):
                item.locked_until = now + timedelta(seconds=30)  # the host renews its locks

    def _elapsed(self) -> float:
        return (self.clock.now() - self._started).total_seconds()

    async def _bury(self) -> None:
        tasks = [*self.abandoned, *(w.task for w in self.workers if w.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _brief(name: str, args: Any) -> str:
    match name:
        case "commit":
            return f"{args[0]}/{args[1][-6:]} " + ",".join(
                f"{type(write).__name__[0]}:{write.key[:44]}" for write in args[2]
            )
        case "send":
            return " ".join(f"{message.queue}:{message.message_id}" for message in args[0])
        case _:
            return " ".join(str(arg)[:40] for arg in args[:3])
