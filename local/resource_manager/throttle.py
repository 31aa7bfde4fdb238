"""Throttling as the service does it: a token bucket per caller and kind of request, and one for all.

Off unless `KPAX_ARM_THROTTLE` says otherwise: `azure` for the documented sizes, or buckets of
one's own as `reads=250/25,writes=200/10,deletes=200/10` (size, and tokens that come back per
second). The bucket for all callers together is 15 times as large. Source: "Understand how Azure
Resource Manager throttles requests", limits of 2024.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.errors import StackError
from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from collections.abc import Callable

_AZURE = {"reads": (250.0, 25.0), "writes": (200.0, 10.0), "deletes": (200.0, 10.0)}
_ALL_CALLERS = 15
_MOST = 1000
_KINDS = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}


class ThrottledError(ArmError):
    """429, with the seconds until a token is there again."""

    def __init__(self, kind: str, subscription: str, principal: str, wait_s: int) -> None:
        super().__init__(
            "SubscriptionRequestsThrottled",
            f"Number of '{kind.removesuffix('s')}' requests for subscription '{subscription}' "
            f"actor '{principal}' exceeded. Please try again after '{wait_s}' seconds after "
            "additional tokens are available. Refer to https://aka.ms/arm-throttling for "
            "additional information.",
            status=429,
        )
        self.headers = {"Retry-After": str(wait_s)}


@dataclass(slots=True)
class _Bucket:
    size: float
    refill: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.size, self.left + (now - self.at) * self.refill)
        self.at = now


class Throttle:
    """The buckets of one subscription."""

    def __init__(self, setting: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = _sizes(setting)
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    @classmethod
    def from_environment(cls) -> Throttle:
        """As `KPAX_ARM_THROTTLE` says.

        Raises:
            StackError: it says nothing that is understood.
        """
        return cls(os.environ.get("KPAX_ARM_THROTTLE", "off"))

    def take(self, method: str, subscription: str, principal: str) -> dict[str, str]:
        """Take a token for a request; the headers that tell how many are left.

        Raises:
            ThrottledError: there is none.
        """
        if not self._sizes:
            return {}
        kind = _KINDS.get(method.upper(), "writes")
        own = self._bucket(principal, kind, 1)
        everybody = self._bucket("", kind, _ALL_CALLERS)
        for bucket in (own, everybody):
            if bucket.left < 1:
                wait_s = max(1, math.ceil((1 - bucket.left) / bucket.refill))
                raise ThrottledError(kind, subscription, principal, wait_s)
        own.left -= 1
        everybody.left -= 1
        return {
            f"x-ms-ratelimit-remaining-subscription-{kind}": str(int(own.left)),
            f"x-ms-ratelimit-remaining-subscription-global-{kind}": str(int(everybody.left)),
        }

    def _bucket(self, principal: str, kind: str, times: int) -> _Bucket:
        now = self._clock()
        found = self._buckets.get((principal, kind))
        if found is None:
            if len(self._buckets) > _MOST:  # callers that come and go leave full ones behind
                self._buckets = {
                    key: one for key, one in self._buckets.items() if one.left < one.size
                }
            size, refill = (one * times for one in self._sizes[kind])
            found = self._buckets[principal, kind] = _Bucket(size, refill, size, now)
        found.fill(now)
        return found


def _sizes(setting: str) -> dict[str, tuple[float, float]]:
    wanted = setting.strip().lower()
    if wanted in ("", "off"):
        return {}
    if wanted == "azure":
        return _AZURE
    sizes = dict(_AZURE)
    for part in wanted.split(","):
        kind, _, numbers = part.strip().partition("=")
        size, _, refill = numbers.partition("/")
        try:
            found = (float(size), float(refill))
        except ValueError:
            found = (0.0, 0.0)
        if kind not in sizes or found[0] < 1 or found[1] <= 0:
            raise StackError(
                f"KPAX_ARM_THROTTLE is '{setting}': expected off, azure, or "
                "reads=SIZE/PER_SECOND,writes=…,deletes=…"
            )
        sizes[kind] = found
    return sizes
