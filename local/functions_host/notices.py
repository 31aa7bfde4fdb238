"""What an app asks for that makes no difference, said once when the host starts.

Pure. These are asked for in good faith and do no harm, so they are not refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.functions_host.functions import HttpTrigger, QueueTrigger, TimerTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.functions_host.functions import Function
    from local.functions_host.settings import HostSettings

Notice = tuple[str, dict[str, object]]


def notices(functions: Sequence[Function], settings: HostSettings) -> Iterator[Notice]:
    """Event and fields of each line to log."""
    queues = [(f.name, f.trigger) for f in functions if isinstance(f.trigger, QueueTrigger)]
    if settings.dynamic_concurrency and any(not one.is_batch for _, one in queues):
        yield (
            "host.concurrency_is_fixed",
            {
                "because": "dynamicConcurrencyEnabled is accepted and nothing is adjusted",
                "max_concurrent_calls": settings.max_concurrent_calls,
                "max_concurrent_sessions": settings.max_sessions,
            },
        )
    singles = [name for name, one in queues if not one.is_batch and not one.has_sessions]
    if settings.prefetch and singles:
        yield (
            "host.nothing_prefetched",
            {
                "because": "each message has a receiver of its own; batches and sessions prefetch",
                "functions": singles,
            },
        )
    for function in functions:
        if function.retry is not None and not isinstance(function.trigger, TimerTrigger):
            kind = "HTTP" if isinstance(function.trigger, HttpTrigger) else "Service Bus"
            yield (
                "function.retry_policy_ignored",
                {
                    "function": function.name,
                    "because": f"Azure obeys retry policies of timers, not of {kind} triggers",
                },
            )
