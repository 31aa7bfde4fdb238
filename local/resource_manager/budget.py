"""How much work one request or operation may make: a bound in steps, not in seconds.

A template of a few lines can ask for a loop in a loop in a loop. Every evaluated expression, every
turn of a loop and every value that is built costs; who runs out is refused. Templates within the
documented limits stay far below.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from local.resource_manager.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = 1_500_000


class _Budget:
    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps


_current: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def budgeted(steps: int = STEPS) -> Iterator[None]:
    """Bound what is spent inside, tasks that are started there included."""
    token = _current.set(_Budget(steps))
    try:
        yield
    finally:
        _current.reset(token)


def spend(steps: int = 1) -> None:
    """Pay for some work; outside of `budgeted` it is free.

    Raises:
        TemplateError: nothing is left.
    """
    budget = _current.get()
    if budget is None:
        return
    budget.left -= steps
    if budget.left < 0:
        raise TemplateError(
            "The template asks for more work than a deployment may make: it has loops in loops, "
            "or builds values of values"
        )
