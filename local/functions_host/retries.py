"""Retry policies: how often and after what delay a failed call is made again.

Pure. The host of Azure obeys them for timers; for HTTP and Service Bus it warns and goes on
without (a failed message is abandoned and comes back by itself). Exponential delays are those of
the real host: the minimum plus a part that doubles, ±20 %, never over the maximum.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FIXED, EXPONENTIAL = "fixed_delay", "exponential_backoff"
_SPREAD = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`max_count` -1: for ever. `least_s` is the delay of a fixed one; `most_s` caps the other."""

    max_count: int
    is_exponential: bool
    least_s: float
    most_s: float

    def delay_s(
        self, retry: int, *, spread: Callable[[float, float], float] = random.uniform
    ) -> float:
        """Seconds to wait before the retry of this number (1-based)."""
        if not self.is_exponential or retry == 1:
            return self.least_s
        # Beyond 2**40 any delay of a microsecond is over any maximum.
        grown = 2.0 ** min(retry - 2, 40) * self.least_s
        return min(self.least_s + spread(1 - _SPREAD, 1 + _SPREAD) * grown, self.most_s)

    def allows(self, retry: int) -> bool:
        """Whether the retry of this number (1-based) is still to be made."""
        return self.max_count < 0 or retry <= self.max_count


def read_policy(options: Any) -> RetryPolicy:  # noqa: ANN401 — an attribute bag of the worker library
    """The policy in what the worker library made of the `retry` decorator.

    Raises:
        ValueError: what is wrong with it.
    """
    count = options.max_retry_count
    if count < -1 or count == 0:
        raise ValueError(f"max_retry_count must be -1 or from 1 up, not {count}")
    match options.retry_strategy:
        case "fixed_delay":
            delay_s = options.delay_interval.total_seconds()
            return RetryPolicy(
                max_count=count, is_exponential=False, least_s=delay_s, most_s=delay_s
            )
        case "exponential_backoff":
            least_s = options.minimum_interval.total_seconds()
            most_s = options.maximum_interval.total_seconds()
            if least_s > most_s:
                raise ValueError("minimum_interval is longer than maximum_interval")
            return RetryPolicy(
                max_count=count, is_exponential=True, least_s=least_s, most_s=most_s
            )
        case other:
            raise ValueError(f"the strategy must be {FIXED} or {EXPONENTIAL}, not {other!r}")
