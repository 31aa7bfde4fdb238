"""What every type of resource has in common, and the words by which providers are found.

A provider makes one type real: `realise` may be called again at any time with the same body and
must then change nothing; `remove` may be called for what is half made or gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from local.resource_manager.errors import ArmError
from local.resource_manager.providers.versions import REGIONS
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record


class Routing(StrEnum):
    """When the front door's table has to be computed anew."""

    NEVER = "never"
    CHANGE = "change"
    """When it is changed or removed: nothing refers to it before it exists."""
    ALWAYS = "always"
    """When it is made too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """An action that stops, starts or restarts what a resource is on this machine."""

    rests: str | None = None
    """How the resource rests afterwards; None: it runs."""
    meanwhile: dict[str, str] = field(default_factory=dict)
    """Properties while it is being done."""
    afterwards: dict[str, str] = field(default_factory=dict)
    """Properties when it is done."""


class Provider:
    """One resource type. Subclasses say what differs."""

    type: ClassVar[str]
    location: ClassVar[str] = "region"
    """`region`: a region is required; `global`: only that word; `none`: it has no place."""
    tracked: ClassVar[bool] = True
    """Whether it stands in lists of resources and takes tags."""
    hidden: ClassVar[tuple[str, ...]] = ()
    """Write-only properties, by path with dots: kept apart, never answered."""
    required: ClassVar[tuple[str, ...]] = ()
    """Paths of the body that must be there."""
    taken: ClassVar[str] = ""
    """The error code of a name that another group's resource of this type has; "": names are
    unique within their group only."""
    routing: ClassVar[Routing] = Routing.NEVER
    """When the front door's table changes with it."""
    removal_rank: ClassVar[int] = 50
    """What is removed first has the lower number."""
    at_once: ClassVar[bool] = False
    """Whether a PUT and a DELETE are done when they are answered."""
    powers: ClassVar[dict[str, Power]] = {}
    """Actions that take time, by their name in lower case: `POST …/verb` answers 202."""
    summary: ClassVar[str] = ""
    """What it becomes on this machine, for SUPPORTED.md."""

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Refuse a body before anything is made.

        UNKNOWN stands in it for what only the deployment will know.

        Raises:
            ArmError: it is wrong.
        """
        for path in self.required:
            if at(body, path) is None:
                raise ArmError(
                    "MissingRequiredProperty",
                    f"'{path}' is required for '{target.full_name}' of type '{self.type}'.",
                    target=path,
                )

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Make it so; the properties that it then has besides the given ones."""
        del record, cloud
        return {}

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """Make it gone."""

    def check_power(self, verb: str, record: Record) -> None:
        """Refuse an action of `powers` that cannot be done as the resource stands.

        An action that a dead process had begun is no reason to refuse the same one.
        """

    def check_power_argument(self, argument: Any) -> None:  # noqa: ANN401 — as it came
        """Refuse the body of an action of `powers`."""

    async def set_power(self, verb: str, record: Record, cloud: Cloud) -> None:
        """Do an action of `powers`; the record already says how it ends."""

    def check_rest(self, record: Record) -> None:
        """Refuse a PUT of it, or of what is below it, while it rests."""

    def busy(self, target: ResourceId) -> ArmError:
        """What is said while another operation runs on it."""
        return ArmError(
            "AnotherOperationInProgress", f"Another operation runs on {target}.", status=409
        )

    async def seen(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """What a GET answers."""
        del cloud
        return record.shown()

    async def view(
        self, path: tuple[str, ...], record: Record, cloud: Cloud
    ) -> dict[str, Any] | None:
        """Something to read below it that is no resource; a list has `value`. None: nothing."""
        del path, record, cloud
        return None

    def act(
        self, verb: str, record: Record, argument: dict[str, Any] | None, cloud: Cloud
    ) -> dict[str, Any]:
        """What `POST …/verb` answers; also `list…()` in templates."""
        del argument, cloud
        raise ArmError(
            "InvalidResourceOperation",
            f"The resource type '{self.type}' of '{record.id.full_name}' has no action '{verb}'.",
            status=404,
        )

    def collection(
        self, name: str, record: Record, cloud: Cloud
    ) -> list[dict[str, Any]] | None:
        """Read-only children that are not resources of their own; None: no such collection."""
        del name, record, cloud
        return None


def at(body: Any, path: str) -> Any:  # noqa: ANN401 — JSON
    """The value at a path with dots; None when there is none, UNKNOWN when that is not known."""
    for step in path.split("."):
        if body is UNKNOWN:
            return UNKNOWN
        if not isinstance(body, dict):
            return None
        body = body.get(step)
    return body


def one_of(value: Any, allowed: tuple[str, ...], path: str) -> None:  # noqa: ANN401 — JSON
    """Refuse a value that is given, known, and none of `allowed` in any case.

    Raises:
        ArmError: as said.
    """
    if value is None or value is UNKNOWN:
        return
    if str(value).lower() not in [one.lower() for one in allowed]:
        raise ArmError(
            "InvalidParameterValue",
            f"The value '{value}' of '{path}' is not valid; it is one of {', '.join(allowed)}.",
            target=path,
        )


def check_location(provider: Provider, location: Any, target: ResourceId) -> None:  # noqa: ANN401 — JSON
    """Refuse a place where this type cannot be.

    Raises:
        ArmError: `LocationRequired` or `LocationNotAvailableForResourceType`.
    """
    if provider.location == "none" or location is UNKNOWN:
        return
    if location is None:
        raise ArmError(
            "LocationRequired", f"The location property is required for '{target.full_name}'."
        )
    places = REGIONS if provider.location == "region" else ("global",)
    if normal_location(location) not in places:
        raise ArmError(
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type "
            f"'{provider.type}'. List of available regions for the resource type is "
            f"'{','.join(places)}'.",
        )


def normal_location(location: object) -> str:
    """`France Central` as `francecentral`."""
    return str(location).replace(" ", "").lower()


def unknown_type(kind: str, namespaces: frozenset[str], *, status: int = 400) -> ArmError:
    """The refusal of a type that is not made here, as the service refuses one that is nowhere."""
    namespace, _, name = kind.partition("/")
    if namespace.lower() not in namespaces:
        return ArmError(
            "InvalidResourceNamespace",
            f"The resource namespace '{namespace}' is invalid: it is not supported by the local "
            "Resource Manager, whose SUPPORTED.md lists those that are.",
            status=status,
        )
    return ArmError(
        "InvalidResourceType",
        f"The resource type '{name}' could not be found in the namespace '{namespace}': it is "
        "not supported by the local Resource Manager, whose SUPPORTED.md lists those that are.",
        status=status,
    )
