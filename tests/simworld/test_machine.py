"""Hypothesis plays the world: every event, call, operator's act, fault and jump, in any order.

A run that breaks an invariant is made as short as Hypothesis can make it, and printed twice: as its
own steps, and as a script for `seeds.replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.simworld import actions as do
from tests.simworld.seeds import (
    ACTIONS,
    ENDS,
    LIFE,
    QUEUES,
    STEPS,
    VERBS,
    Play,
    Step,
    replay,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CRASHES = 3
NUMBERS = st.sampled_from((1, 2))
PLANS = st.sampled_from(("starter", "standard", "premium"))
SECONDS = st.one_of(
    st.sampled_from((1.0, 31.0, 120.0, 3_600.0, 86_400.0)), st.floats(1.0, 600.0)
)


class Machine(RuleBasedStateMachine):
    """Each rule is a step of a script, played at once."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(0)
        self.script: list[Step] = []
        self.sequence = {1: 0, 2: 0}
        self.asked = 0
        self.crashes = 0
        self.long = 0

    @initialize(plan=PLANS, country=st.sampled_from(("DE", "GB", "IN")))
    def begin(self, plan: str, country: str) -> None:
        self.does("order", number=1, plan=plan, country=country)
        self.does("moves", count=20)
        self.says(1, ("activated", "active"), plan, copies=1)

    @rule(plan=PLANS)
    def order(self, plan: str) -> None:
        self.does("order", number=2, plan=plan, country="FR")

    @rule(number=NUMBERS, said=st.sampled_from(LIFE), plan=PLANS, copies=st.integers(1, 3))
    def bill(self, number: int, said: tuple[str, str], plan: str, copies: int) -> None:
        self.says(number, said, plan, copies=copies)

    @rule(number=NUMBERS, word=st.sampled_from(sorted(VERBS)))
    def verb(self, number: int, word: str) -> None:
        self.does("verb", number=number, word=word, key=self.key(), **VERBS[word])

    @rule(number=NUMBERS, action=st.sampled_from(ACTIONS))
    def act(self, number: int, action: str) -> None:
        self.does("act", number=number, action=action, key=self.key())

    @rule(
        number=NUMBERS, what=st.sampled_from(("space", "cluster", "fleet")), again=st.booleans()
    )
    def pause(self, number: int, what: str, *, again: bool) -> None:
        self.does("pause", number=number, what=what, again=again, key=self.key())

    @rule(number=NUMBERS, what=st.sampled_from(("back_up", "restore")))
    def data(self, number: int, what: str) -> None:
        self.does(what, number=number, key=self.key())

    @rule(number=NUMBERS)
    def fill(self, number: int) -> None:
        self.does("fill", number=number)

    @rule(number=NUMBERS, how=st.sampled_from(sorted(ENDS)))
    def ends(self, number: int, how: str) -> None:
        self.does("ends", number=number, how=how)

    @rule(lag_s=st.sampled_from((0.0, 2.0, 20.0)), throttled=st.booleans())
    def manners(self, lag_s: float, *, throttled: bool) -> None:
        self.does("manners", lag_s=lag_s, throttled=throttled)

    @rule(errors=st.integers(0, 4), crashes=st.integers(0, 1))
    def faults(self, errors: int, crashes: int) -> None:
        crashes = min(crashes, MOST_CRASHES - self.crashes)
        self.crashes += crashes
        self.does("faults", errors=errors, crashes=crashes)

    @rule(queue=st.sampled_from(QUEUES))
    def lose(self, queue: str) -> None:
        self.does("lose", queue=queue)

    @rule(queue=st.sampled_from((*QUEUES, do.BILLING)))
    def turn(self, queue: str) -> None:
        self.does("turn", queue=queue)

    @rule()
    def lock(self) -> None:
        if self.crashes < MOST_CRASHES:
            self.crashes += 1
            self.does("lock")

    @rule()
    def again(self) -> None:
        self.does("again")

    @rule(count=st.integers(1, 60))
    def moves(self, count: int) -> None:
        self.does("moves", count=count)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.does("wait", seconds=seconds)

    @rule(days=st.integers(2, 90))
    def wait_for_days(self, days: int) -> None:
        if self.long == 0:
            self.long = 1
            self.does("wait", seconds=days * 86_400.0)

    @rule(seconds=SECONDS)
    def outage(self, seconds: float) -> None:
        self.does("outage", seconds=seconds)

    def says(self, number: int, said: tuple[str, str], plan: str, *, copies: int) -> None:
        self.sequence[number] += 1
        sequence = self.sequence[number]
        self.does(
            "bill",
            number=number,
            sequence=sequence,
            kind=said[0],
            status=said[1],
            plan=plan,
            copies=copies,
            names_order=True,
        )

    def key(self) -> str:
        self.asked += 1
        return f"m-{self.asked}"

    def does(self, name: str, **more: Any) -> None:
        self.script.append((name, more))
        try:
            STEPS[name](self.play, **more)
        except BaseException as error:
            note(told(0, self.script, repr(error)))
            raise

    def teardown(self) -> None:
        """The day ends: calm, then rest, then everything must hold."""
        try:
            self.play.calm()
            self.play.world.settle(hours=24 * 14)
        except BaseException as error:
            note(told(0, self.script, repr(error)))
            raise
        finally:
            self.play.world.close()


def played(examples: int, *, shrinks: bool = True) -> None:
    left_out = {Phase.reuse} if shrinks else {Phase.reuse, Phase.shrink}
    phases = [phase for phase in Phase if phase not in left_out]
    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            print_blob=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_order_of_anything_breaks_an_invariant() -> None:
    played(5)


@pytest.mark.soak
def test_no_order_of_very_many_things_breaks_an_invariant() -> None:
    played(1_500)


def test_what_breaks_is_found_and_printed_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that is printed breaks the same invariant again."""
    broken: Callable[..., None] = STEPS["turn"]

    def breaks(play: Play, queue: str) -> None:
        broken(play, queue)
        play.world.rules.newest[do.subject(1)] = 10**6

    monkeypatch.setitem(STEPS, "turn", breaks)
    with pytest.raises(AssertionError, match="invariant 6") as found:
        played(30, shrinks=False)
    printed = "\n".join(getattr(found.value, "__notes__", []))
    assert "replay(0, [" in printed
    script: list[list[Step]] = []
    text = printed[printed.index("replay(0, [") :].partition("\n])")[0] + "\n])"
    exec(text, {"replay": lambda _, steps: script.append(steps)})  # noqa: S102 - our own text
    with pytest.raises(AssertionError, match="invariant 6"):
        replay(0, script[0])
