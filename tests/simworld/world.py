"""One world: the estate, the app's processes in it, and a scheduler that decides who goes on.

In order (no chance given): one process at a time, messages as they stand, time moves when nothing
else can. With chance: several processes, held before each call of a port, let go on by lot. A
crash is a process that never goes on; a lost lock is a message that a second one gets meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from spaces.errors import KpaxError
from spaces.ports import Message
from tests.fakes import START
from tests.simworld import host
from tests.simworld.data import SimEngine
from tests.simworld.doors import Call, Door, Fault, Process, behind_doors, error_of
from tests.simworld.estate import Estate
from tests.simworld.invariants import BrokenError, Rules
from tests.simworld.loop import Loop

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Mapping

    import azure.functions as func

    from tests.fakes import Received

SWEEP = "provisioning_sweep"
# Looks again at what was seen and is not closed.
LOOK = "provisioning_look_again"
# They read every space or queue, and change nothing: left out of jumps over months.
PASSIVE = frozenset({"route_review_spaces", "console_measure"})
MOST_PROCESSES = 4
MOST_MOVES = 20_000
LOCK_S = 30
REST_TICKS = 20
MOST_TRIES = 40

_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


@dataclass(slots=True, eq=False)
class Asked:
    """A request of somebody outside, who asks again until there is an answer of the app."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]
    due_at: datetime
    tries: int = 0
    process: Process | None = None
    status: int | None = None
    answer: dict[str, Any] = field(default_factory=dict[str, Any])


class World:
    """See the module. `faults` go wrong at the calls of these numbers, counted from `count`."""

    def __init__(
        self,
        estate: Estate | None = None,
        *,
        chance: random.Random | None = None,
        faults: Mapping[int, Fault] | None = None,
        timers: frozenset[str] | None = None,
    ) -> None:
        self.estate = estate or Estate()
        self.clock = self.estate.clock
        self.chance = chance
        self.faults = dict(faults or {})
        self.sleeps: set[int] = set()
        self.losing: int | None = None
        self.latency_s = 0.0
        self.loop = Loop(self.elapsed)
        self.ports = behind_doors(self.estate.ports, self._enter)
        engine = SimEngine(self.estate.data, self.estate.ports.ids, self.clock)
        self.engine: Any = Door("engine", engine, self._enter)
        self.data: Any = Door("data", self.estate.data, self._enter)
        self.rules = Rules(self.estate)
        self.processes: list[Process] = []
        self.buried: list[Process] = []
        self.items: dict[Process, Received] = {}
        self.handled: list[Received] = []
        self.asked: list[Asked] = []
        self.trace: list[str] = []
        self.calls: list[Call] = []
        self.count = 0
        self.died = False
        self.errors: list[str] = []
        self.sweeper = True
        self.misfortune: Callable[[Call], Fault | None] | None = None
        self._is_over = False
        self._not_before = START
        self._rest = 0
        self._changes = 0
        self._accepted = 0
        self._seen = len(self.estate.bus.sent)
        self._last_tick: dict[str, datetime] = {}
        self._next_tick: dict[str, datetime] = {}
        self._sweep_at: tuple[datetime, datetime] | None = None
        self._timers = timers if timers is not None else frozenset(host.app().timers) - PASSIVE

    # --- from outside

    def post(self, path: str, body: dict[str, Any] | None, *, key: str, **more: str) -> Asked:
        """A request with an Idempotency-Key, repeated until it is answered."""
        return self.ask("POST", path, body, headers={"idempotency-key": key, **more})

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Asked:
        raw = json.dumps(body).encode() if body is not None else b""
        asked = Asked(method, f"/api/v1{path}", raw, headers or {}, self.clock.now())
        host.request(asked.method, asked.path, asked.body, asked.headers)  # it must exist
        self.asked.append(asked)
        self._rest = 0
        self.note(f"asked {method} {path}")
        return asked

    def put(self, queue: str, body: str, message_id: str) -> None:
        """A stranger's message on a queue."""
        sent = Message(queue=queue, message_id=message_id, body=body)
        self.loop.finish(self.estate.bus.send([sent]))
        self.note(f"put {queue} {message_id}")
        self._changes += 1

    def elapsed(self) -> float:
        """Seconds since the beginning of all worlds."""
        return (self.clock.now() - START).total_seconds()

    def note(self, line: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.elapsed():.3f} {line}")

    # --- running

    def settle(self, *, hours: float = 12.0) -> None:
        """Go on until nothing more happens; then everything must be as it must be at rest."""
        self._rest = 0
        self.run(self.clock.now() + timedelta(hours=hours), until_rest=True)
        self.rules.at_rest()

    def rest_after(self, moment: datetime) -> None:
        """The next `settle` goes on to this moment at least."""
        self._not_before = moment

    def advance(self, seconds: float) -> None:
        """Time passes, and everything that is due happens in its order."""
        self.run(self.clock.now() + timedelta(seconds=seconds))

    def outage(self, seconds: float) -> None:
        """Every process ends, and nobody is there for a while; the platform goes on."""
        self.note(f"outage of {seconds} s")
        for process in [*self.processes]:
            self._die(process)
        self.rules.unswept = self.rules.had_outage = True
        self.clock.advance(seconds)
        self.estate.react()

    def run(self, until: datetime, *, until_rest: bool = False) -> None:
        """Let things happen up to a moment, or until nothing more does."""
        host.CURRENT = self
        moves = 0
        while moves < MOST_MOVES:
            self._turn()
            if self._act():
                moves += 1
                continue
            moves = 0
            if until_rest and self._rests():
                if not self._wake_one():
                    return
                continue
            at = self._next_moment()
            if at is None or at > until:
                if until_rest:
                    raise BrokenError(9, f"it does not come to rest: {self._open()}")
                self._move_to(until)
                return
            self._move_to(at)
        raise AssertionError(f"more happens at one moment than any run needs: {self._open()}")

    def step(self) -> bool:
        """One move of the scheduler; false when only time could go on."""
        host.CURRENT = self
        self._turn()
        return self._act()

    def _wake_one(self) -> bool:
        asleep = [one for one in self.processes if one.is_asleep]
        if asleep:
            self.note(f"awake {asleep[0].name}")
            asleep[0].is_asleep = False
            self._rest = 0
        return bool(asleep)

    def tick(self) -> None:
        """Let time go on to the next moment at which something can happen, if it is near."""
        at = self._next_moment()
        if at is not None and at <= self.clock.now() + timedelta(seconds=60):
            self._move_to(at)

    def accepted(self) -> int:
        """How many messages of working queues the broker has accepted."""
        return self._accepted

    def close(self) -> None:
        """Bury everybody, so that nothing of this world runs on."""
        self._is_over = True
        tasks = [one.task for one in [*self.processes, *self.buried] if one.task is not None]
        for task in tasks:
            task.cancel()
        self.loop.run_ready()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()

    # --- what can happen now

    def _act(self) -> bool:
        if self.chance is not None:
            return self._act_by_lot(self.chance)
        awake = [one for one in self.processes if not one.is_asleep]
        for process in awake:
            if process.gates:
                process.gates.pop(0).set_result(None)
                return True
        if awake:
            return False
        return self._begin(lambda choices: choices[0])

    def _act_by_lot(self, chance: random.Random) -> bool:
        held = [one for one in self.processes if one.gates and not one.is_asleep]
        awake = [one for one in self.processes if not one.is_asleep]
        if held and (len(awake) >= MOST_PROCESSES or chance.random() < 0.8):
            process = held[chance.randrange(len(held))]
            process.gates.pop(chance.randrange(len(process.gates))).set_result(None)
            return True
        if len(awake) < MOST_PROCESSES and self._begin(chance.choice):
            return True
        if held:
            held[0].gates.pop(0).set_result(None)
            return True
        return False

    def _begin(self, choose: Callable[[list[Any]], Any]) -> bool:
        """Start one process on something that waits for one."""
        now = self.clock.now()
        choices: list[Callable[[], None]] = []
        choices += [
            lambda queue=queue: self._deliver(queue)
            for queue in host.app().queues
            if self.estate.bus.has(queue)
        ]
        choices += [
            lambda asked=asked: self._call(asked)
            for asked in self.asked
            if asked.process is None and asked.status is None and asked.due_at <= now
        ]
        for name in sorted(self._timers):
            at = self._tick_at(name)
            if at is not None and at <= now:
                choices.append(lambda name=name, at=at: self._fire(name, at))
        if not choices:
            return False
        choose(choices)()
        return True

    def _deliver(self, queue: str) -> None:
        [item] = self.estate.bus.receive(queue)
        call = host.app().queues[queue]
        self.begin(f"{queue} {item.message.message_id}", call(host.message(item)), item)

    def deliver_again(self, item: Received) -> None:
        """A copy of a message that was handled already comes late."""
        call = host.app().queues[item.queue]
        self.begin(f"{item.queue} {item.message.message_id} again", call(host.message(item)))

    def _call(self, asked: Asked) -> None:
        route, request = host.request(asked.method, asked.path, asked.body, asked.headers)
        asked.tries += 1
        asked.process = self.begin(f"http {route.name} {asked.tries}", route.call(request))

    def _fire(self, name: str, at: datetime) -> None:
        timer = host.app().timers[name]
        self._last_tick[name] = max(at, self.clock.now())  # missed ticks are one
        self._next_tick.pop(name, None)
        self.begin(f"timer {name}", timer.call(host.tick()))

    def begin(
        self, name: str, work: Coroutine[Any, Any, Any], item: Received | None = None
    ) -> Process:
        """A process of its own for this work."""
        process = Process(name)
        context = contextvars.copy_context()
        context.run(_process.set, process)
        process.task = self.loop.create_task(work, context=context)
        self.processes.append(process)
        if item is not None:
            self.items[process] = item
        self.note(f"begin {name}")
        return process

    # --- how a process ends

    def _turn(self) -> None:
        self.loop.run_ready()
        for process in [one for one in self.processes if one.task and one.task.done()]:
            self.processes.remove(process)
            self._ended(process)

    def _ended(self, process: Process) -> None:
        assert process.task is not None
        error = process.task.exception()
        if error is not None:
            self.note(f"raised {process.name}: {error!r}"[:300])
            self.errors.append(f"{process.name}: {error!r}")
            if not isinstance(error, KpaxError):
                raise error
        item = self.items.pop(process, None)
        if item is not None:
            self.handled.append(item)
            try:
                if error is None:
                    self.estate.bus.complete(item)
                else:
                    self.estate.bus.abandon(item)
            except LookupError:
                self.note(f"late {process.name}")
        elif process.name.startswith("timer"):
            self._swept(process)
        for asked in self.asked:
            if asked.process is process:
                self._answered(asked, process.task.result() if error is None else None)

    def _swept(self, process: Process) -> None:
        if process.name != f"timer {SWEEP}":
            return
        self.rules.unswept = False
        self._rest = self._rest + 1 if process.calls == self._changes else 0

    def _answered(self, asked: Asked, answer: func.HttpResponse | None) -> None:
        asked.process = None
        status = answer.status_code if answer is not None else 500
        body: dict[str, Any] = json.loads((answer and answer.get_body()) or b"{}")
        busy = str(body.get("type", "")).endswith("request-in-progress")
        again = busy or status >= 500 or status == 429
        if again and asked.tries < MOST_TRIES:
            asked.due_at = self.clock.now() + timedelta(seconds=3 * min(asked.tries, 10))
            return
        asked.status, asked.answer = status, body
        self.note(
            f"answer {asked.path} {status} {str(body.get('type', '')).rpartition('/')[2]}"
        )

    def _die(self, process: Process) -> None:
        """The process is gone; what it had in its hands comes again."""
        self.note(f"died {process.name}")
        self.died = True
        process.is_dead = True
        if process in self.processes:
            self.processes.remove(process)
        self.buried.append(process)
        self.items.pop(process, None)
        for asked in self.asked:
            if asked.process is process:
                asked.process = None
                asked.due_at = self.clock.now() + timedelta(seconds=1)

    # --- the doors

    async def _enter(self, call: Call, target: Any, args: Any, kwargs: Any) -> Any:
        process = _process.get()
        if self._is_over:
            raise asyncio.CancelledError
        gate = self.loop.create_future()
        if not process.is_dead:
            process.gates.append(gate)
        await gate
        self.count += 1
        self.calls.append(call)
        if self.count in self.sleeps:
            await self._sleep(process)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        fault = self.faults.get(self.count)
        if fault is None and self.misfortune is not None:
            fault = self.misfortune(call)
        self.note(f"{process.name} → {call}{f' *** {fault}' if fault else ''}")
        if fault is Fault.DIE_BEFORE:
            await self._dead(process)
        if fault is Fault.FAIL:
            raise error_of(call, after=False, throttled=self.count % 2 == 0)
        result = await target(*args, **kwargs)
        self._had_effect(process, call, args)
        if fault is Fault.DIE_AFTER:
            await self._dead(process)
        if fault is Fault.LOSE:
            raise error_of(call, after=True)
        return result

    async def _sleep(self, process: Process) -> None:
        """It stands before this call, its lock renewed, until nobody else has anything to do."""
        self.note(f"asleep {process.name}")
        process.is_asleep = process.keeps_lock = True
        gate = self.loop.create_future()
        process.gates.append(gate)
        await gate

    async def _dead(self, process: Process) -> None:
        self._die(process)
        await self.loop.create_future()

    def _had_effect(self, process: Process, call: Call, args: Any) -> None:
        if call.name == "send":
            self._lose_one()
        if call.name in {"commit", "send", "put_stack", "delete_stack"}:
            self._changes += 1
        process.calls = self._changes
        if call.port == "tables" and call.name == "commit" and args[0] == "spaces":
            self.rules.committed(args[1], args[2])
        if call.port == "arm":
            self.estate.react()
            self.rules.always()

    def _lose_one(self) -> None:
        """The broker loses the message of this number, counted over the queues that are worked on."""
        for message in self.estate.bus.sent[self._seen :]:
            self._accepted += 1
            if self._accepted == self.losing:
                self.estate.bus.vanish(message)
                self.note(f"lost {message.message_id}")
        self._seen = len(self.estate.bus.sent)

    # --- time

    def _next_moment(self) -> datetime | None:
        held = {id(item) for process, item in self.items.items() if process.holds_lock()}
        moments = [
            item.locked_until
            for item in self.estate.bus.held()
            if item.locked_until is not None and id(item) not in held
        ]
        due, timer = self.estate.bus.next_due(), self.loop.next_timer()
        moments += [due] if due is not None else []
        if timer is not None:  # a microsecond later: a moment must not round to before it
            moments.append(START + timedelta(seconds=timer, microseconds=1))
            if self.chance is None and any(not one.is_asleep for one in self.processes):
                return max(moments[-1], self.clock.now())  # nobody else begins before it ends
        moments += [one.due_at for one in self.asked if not one.process and one.status is None]
        moments += [at for name in self._timers if (at := self._tick_at(name)) is not None]
        return max(min(moments), self.clock.now()) if moments else None

    def _move_to(self, at: datetime) -> None:
        before, now = self.clock.now(), self.clock.now()
        if at > now:
            self.clock.set(at)
            now = at
        for process, item in self.items.items():
            until = item.locked_until
            if process.holds_lock() and until is not None and until >= before:
                item.locked_until = now + timedelta(seconds=LOCK_S)  # the host renews its locks
        self.estate.react()
        self.rules.always()

    def _tick_at(self, name: str) -> datetime | None:
        """When a timer fires next. Ticks that would find nothing are left out, where that is known."""
        if name == LOOK and not self._has_alarms():
            return None
        if name == SWEEP:
            wanted = self._sweep_wanted()
            if wanted is None:
                return None
            since = max(wanted, self._last_tick.get(name, START))
            if self._sweep_at is None or self._sweep_at[0] != since:
                self._sweep_at = (since, host.next_tick(host.app().timers[name], since))
            return self._sweep_at[1]
        if name not in self._next_tick:
            since = max(self._last_tick.get(name, START), self.clock.now())
            self._next_tick[name] = host.next_tick(host.app().timers[name], since)
        return self._next_tick[name]

    def _has_alarms(self) -> bool:
        rows = self.estate.tables.rows("alarms")
        return any(not row.values.get("closed_at") and not row.values["told"] for row in rows)

    def _sweep_wanted(self) -> datetime | None:
        """From when on a sweep can find something; None: there is nothing to find."""
        if not self.sweeper:
            return None
        if self.rules.unswept or self.estate.tables.rows("activeops"):
            return START
        dues = [row.values["due_at"] for row in self.estate.tables.rows("dues")]
        found: list[datetime] = [at for at in dues if isinstance(at, datetime)]
        return min(found, default=None)

    def _rests(self) -> bool:
        if any(one for one in self.processes if not one.is_asleep):
            return False
        held = [self.items[one] for one in self.processes if one in self.items]
        if not self.estate.bus.is_empty(but=held):
            return False
        if any(one.status is None for one in self.asked):
            return False
        now = self.clock.now()
        if now < self._not_before:
            return False
        wanted = self._sweep_wanted()
        return wanted is None or wanted > now or self._rest >= REST_TICKS

    def _open(self) -> str:
        spaces = [
            f"{space.space_id} {space.status} {space.op.ticket if space.op else ''}"
            for space in self.rules.spaces.values()
        ]
        return f"{spaces}, errors {self.errors[-3:]}"
