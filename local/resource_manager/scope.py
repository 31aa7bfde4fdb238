"""Where an expression stands: what `parameters`, `copyIndex` or `reference` mean there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from local.resource_manager.ids import ResourceId


class Runtime(Protocol):
    """The running cloud, as far as expressions may ask it."""

    def reference(self, target: ResourceId, *, full: bool) -> Any:  # noqa: ANN401 — JSON
        """What the resource is now: its properties, or all of it. ArmError when there is none."""
        ...

    def action(self, verb: str, target: ResourceId, argument: Any) -> Any:  # noqa: ANN401 — JSON
        """What a `list…` call on the resource answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The deployment an expression belongs to, and where that deploys to."""

    subscription: str
    tenant: str
    deployment: str
    location: str | None = None
    group: str | None = None
    principal: str = ""
    """Who deploys, for `deployer()`."""
    read_group: Callable[[str], dict[str, Any] | None] = lambda _: None

    @property
    def id(self) -> ResourceId:
        """The subscription or group that things are put into."""
        return ResourceId(self.subscription, self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """All names that an expression may use. Immutable; `with_…` gives the inner one of a loop."""

    place: Place
    into: ResourceId | None = None
    """Where resources are put, when that is not the place: a nested template's own target, while
    its expressions stand in the template around it."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    variables: Callable[[Scope, str], Any] | None = None
    variable_names: frozenset[str] = frozenset()
    user_functions: Mapping[str, Any] = field(default_factory=dict)
    symbols: Mapping[str, ResourceId] = field(default_factory=dict)
    loops_of_symbols: Mapping[str, tuple[ResourceId, ...]] = field(default_factory=dict)
    loops: Mapping[str, int] = field(default_factory=dict)
    loop: int | None = None
    lambda_values: Mapping[str, Any] = field(default_factory=dict)
    runtime: Runtime | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    """Functions (lower case) that must not stand here."""

    @property
    def target(self) -> ResourceId:
        """The subscription or group that resources are put into."""
        return self.into or self.place.id

    def with_loop(self, name: str, index: int) -> Scope:
        """Inside of one turn of a copy loop."""
        return replace(self, loops={**self.loops, name.lower(): index}, loop=index)

    def with_lambda(self, values: Mapping[str, Any]) -> Scope:
        """Inside of one call of a lambda."""
        return replace(self, lambda_values={**self.lambda_values, **values})

    def with_runtime(self, runtime: Runtime) -> Scope:
        """While deploying."""
        return replace(self, runtime=runtime)

    def refusing(self, *functions: str) -> Scope:
        """Where some functions must not stand."""
        return replace(self, refused=self.refused | {f.lower() for f in functions})
