"""Ports that only look: whatever would change the world is refused.

A step that ends well on these has its effect standing already; that is how a resource is adopted.
What may be called is listed; everything else counts as a change.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

from spaces.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.ports import Ports

LOOKS: dict[str, frozenset[str]] = {
    "tables": frozenset({"get", "query"}),
    "bus": frozenset({"dead_letters", "depths"}),
    "accounts": frozenset({"of_space", "connection_of_space", "backup_of"}),
    "arm": frozenset({"get_stack", "list_stacks", "instances", "power"}),
    "databases": frozenset({"databases", "accepts"}),
    "secrets": frozenset({"get"}),
    "keys": frozenset({"unwrap"}),
    "edge": frozenset({"request"}),
}
BLOBS = frozenset({"read", "download", "info", "list"})
ASKING = frozenset({"GET", "HEAD"})


def only_looking(ports: Ports) -> Ports:
    """The same ports, which raise `RefusedError` at the first call that would change something."""
    names = {field.name for field in fields(ports)} & set(LOOKS)
    wrapped = {
        name: _Looking(getattr(ports, name), name, LOOKS[name]) for name in sorted(names)
    }
    return replace(ports, **cast("dict[str, Any]", wrapped))


class _Looking:
    """One port: its looks go through, its blobs only look too."""

    def __init__(self, port: object, name: str, looks: frozenset[str]) -> None:
        self._port = port
        self._name = name
        self._looks = looks

    def __getattr__(self, call: str) -> Any:  # noqa: ANN401 — whatever the port's method is
        if call not in self._looks:
            raise _refused(self._name, call)
        target: Callable[..., Any] = getattr(self._port, call)
        if self._name == "edge":
            return _asking(target)
        if call == "backup_of":
            return _naming(target)
        if call == "of_space":
            return _opening(target)
        return target


def _asking(request: Callable[..., Any]) -> Callable[..., Any]:
    async def ask(method: str, url: str, **options: object) -> object:
        if method not in ASKING:
            raise _refused("edge", method)
        return await request(method, url, **options)

    return ask


def _naming(backup_of: Callable[..., Any]) -> Callable[..., Any]:
    def named(*args: object) -> object:
        return _Looking(backup_of(*args), "blobs", BLOBS)

    return named


def _opening(of_space: Callable[..., Any]) -> Callable[..., Any]:
    async def opened(*args: object, **options: object) -> object:
        return _Looking(await of_space(*args, **options), "blobs", BLOBS)

    return opened


def _refused(port: str, call: str) -> RefusedError:
    return RefusedError(
        f"its effect does not stand: it would have to call {port}.{call}",
        remedy="Retry the step instead.",
    )
