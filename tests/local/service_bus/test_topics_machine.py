"""Topics and forwarding against a plain model, over random histories with crashes in between.

first → t → all, some (by a rule), on → end; the dead letters of `all` go to `graves`. The model is a
list of texts for each of them, and numbers that only rise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from local.service_bus.message import examine
from local.service_bus.model import QueueSettings
from tests.local.service_bus.rig import Clock, Consumer, text_of
from tests.local.service_bus.world import World, sql

WINDOW_MS = 20_000
PLACES = {
    "all": "t/subscriptions/all",
    "some": "t/subscriptions/some",
    "end": "end",
    "graves": "graves",
    "stuck": "t/subscriptions/on/$transfer/$deadletterqueue",
}


class TopicMachine(RuleBasedStateMachine):
    """A namespace with a file, its model, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "broker.sqlite"
        self.clock = Clock()
        self.world = World(self.path, self.clock)
        self.world.topic("t", duplicate_window_ms=WINDOW_MS)
        self.world.queue("end")
        self.world.queue("graves")
        self.world.queue("first", forward_to="t")
        self.world.subscription("t", "all", forward_dead_to="graves")
        self.world.subscription("t", "some", [sql("r", "sys.MessageId LIKE 'b%'")])
        self.world.subscription("t", "on", forward_to="end")
        self.texts: dict[str, list[str]] = {place: [] for place in PLACES}
        self.scheduled: list[tuple[int, int, str]] = []
        self.seen: dict[str, int] = {}
        self.is_open = True
        self.sent = 0
        self.highest = dict.fromkeys(PLACES, 0)

    def teardown(self) -> None:
        self.world.store.close()
        self.folder.cleanup()

    # --- the model's own rules

    def _published(self, text: str) -> None:
        self.texts["all"].append(text)
        if text.startswith("b"):
            self.texts["some"].append(text)
        self.texts["end" if self.is_open else "stuck"].append(text)

    # --- what may happen

    @rule(
        message_id=st.sampled_from(["a", "b", "b2", None, None]),
        to=st.sampled_from(["t", "first"]),
        delay=st.sampled_from([0, 0, 0, 5_000]),
    )
    def send(self, message_id: str | None, to: str, delay: int) -> None:
        self.sent += 1
        message_id = message_id or f"{'ab'[self.sent % 2]}-{self.sent}"
        text = f"{message_id}:{self.sent}"
        due = self.clock.now + delay if delay else None
        self.world.send(to, text, message_id=message_id, due_ms=due)
        if to == "first" and delay:  # it arrives in the topic when it is due, as a new message
            self.scheduled.append((self.clock.now + delay, self.sent, text))
        elif self.seen.get(message_id, 0) <= self.clock.now:
            self.seen[message_id] = self.clock.now + WINDOW_MS
            if delay:
                self.scheduled.append((self.clock.now + delay, -self.sent, text))
            else:
                self._published(text)

    @rule(place=st.sampled_from(sorted(PLACES)), count=st.integers(1, 3))
    def receive_and_delete(self, place: str, count: int) -> None:
        got = self.world.receive(PLACES[place], count)
        assert got.bodies == self.texts[place][:count]
        del self.texts[place][:count]

    @precondition(lambda self: self.texts["all"])
    @rule()
    def dead_letter(self) -> None:
        box = self.world.namespace.find(PLACES["all"]).box
        box.hungry(consumer := Consumer(credit=1))
        box.leave(consumer)
        box.dead_letter(consumer.tokens[0], "why", None)
        self.world.turn()
        self.texts["graves"].append(self.texts["all"].pop(0))

    @rule(is_open=st.booleans())
    def open_or_close_the_end(self, is_open: bool) -> None:
        self.world.namespace.update(QueueSettings(name="end", can_send=is_open))
        self.is_open = is_open

    @rule(ms=st.sampled_from([1, 5_000, 20_000]))
    def time_passes(self, ms: int) -> None:
        self.world.pass_ms(ms)
        due = sorted(entry for entry in self.scheduled if entry[0] <= self.clock.now)
        self.scheduled = [entry for entry in self.scheduled if entry[0] > self.clock.now]
        for at in sorted({entry[0] for entry in due}):
            # Of one instant, what waits in the queue before the topic and in the topic may come
            # in any order; the numbers tell.
            self._woken(at, [entry for entry in due if entry[0] == at])

    def _woken(self, at: int, entries: list[tuple[int, int, str]]) -> None:
        here = [entry for entry in entries if entry[1] < 0]
        before = [entry for entry in entries if entry[1] > 0]
        for _, _, text in sorted(here, key=lambda entry: -entry[1]):
            self._published(text)
        for _, _, text in sorted(before, key=lambda entry: entry[1]):
            message_id = text.partition(":")[0]
            if self.seen.get(message_id, 0) <= at:
                self.seen[message_id] = at + WINDOW_MS
                self._published(text)

    @rule()
    def crash(self) -> None:
        """Kill -9: what was told is there again, in order."""
        self.world = self.world.crash(self.path)

    @invariant()
    def each_copy_is_where_it_belongs(self) -> None:
        for place, path in PLACES.items():
            entity = self.world.namespace.find(path)
            messages = sorted(entity.box.messages.values(), key=lambda m: m.key)
            raws = [entity.queue.raw(message) for message in messages]
            assert [text_of(raw) for raw in raws] == self.texts[place]
            assert all(examine(raw).message_id for raw in raws)
            numbers = [message.sequence for message in messages]
            assert len(set(numbers)) == len(numbers)
            assert all(entity.queue.last_sequence >= number for number in numbers)
            assert entity.queue.last_sequence >= self.highest[place]
            self.highest[place] = entity.queue.last_sequence

    @invariant()
    def nothing_is_left_on_the_way(self) -> None:
        waiting = len(self.scheduled)
        for path in ("first", "t", "t/subscriptions/on"):
            waiting -= len(self.world.namespace.find(path).box.messages)
        assert waiting == 0


TestTopicMachine = TopicMachine.TestCase
TestTopicMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
