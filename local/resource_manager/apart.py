"""Evaluate templates beside the event loop, so that other requests are answered meanwhile.

A template within its bounds may keep a processor for seconds. It is evaluated in one of a few
threads that take turns with the loop (`TURN_S`); what it computes is pure, and what it asks of
the store and the parts of the cloud only reads. Whoever evaluates more than once for one
deployment does so one after the other: its variables are computed when first asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TURN_S = 0.001
"""How long a thread may keep the interpreter while the loop waits for it."""
_threads = ThreadPoolExecutor(max_workers=3, thread_name_prefix="template")


async def apart[**P, T](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises, computed in another thread within this task's budget."""
    context = contextvars.copy_context()
    call = functools.partial(context.run, work, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


def take_turns() -> None:
    """Let threads change often enough for a loop that answers requests."""
    sys.setswitchinterval(min(TURN_S, sys.getswitchinterval()))
