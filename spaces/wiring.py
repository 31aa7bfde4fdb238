"""Opens the doors to the world once per process, and closes them; knows both sides.

The SDKs are imported at the first call, so that what needs no port does not pay for them.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

from spaces.errors import InvalidError
from spaces.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.adapters.opening import Opened
    from spaces.ports import Ports


def ports() -> Ports:
    """All ports of this process, opened at the first call, wrapped where the settings say so."""
    return _opened()[1]


async def close() -> None:
    """Close what `ports` opened, if it did; the next call opens anew."""
    if _opened.cache_info().currsize:
        now, _ = _opened()
        _opened.cache_clear()
        await now.close()


@functools.cache
def _opened() -> tuple[Opened, Ports]:
    from spaces.adapters.opening import opened  # noqa: PLC0415 — every SDK

    given = settings()
    now = opened(given)
    if given.ports_wrapper is None:
        return now, now.ports
    return now, _wrapper(given.ports_wrapper)(now.ports)


def _wrapper(name: str) -> Callable[[Ports], Ports]:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidError(
            f"setting KPAX_PORTS_WRAPPER names no function: {name!r}",
            where="application settings",
            remedy="Write it as module:function.",
        ) from error
