"""The namespaces of resource types as they are told to who asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.providers.versions import REGIONS, versions_of

if TYPE_CHECKING:
    from local.resource_manager.store import Store

_OWN = ("resourceGroups", "deployments", "deployments/operations", "deploymentStacks",
        "deploymentStacksWhatIfResults", "tags", "subscriptions")  # fmt: skip


UNREGISTERED = "unregistered"
"""The kind of fact that the store keeps of a namespace that was unregistered."""


def unregistered(store: Store) -> frozenset[str]:
    """The namespaces that were unregistered, in lower case."""
    return frozenset(store.kept(UNREGISTERED))


def refuse_unregistered(store: Store, kind: str) -> None:
    """Refuse to make a resource of a type whose namespace was unregistered.

    Raises:
        ArmError: as said.
    """
    name = kind.partition("/")[0]
    if name.lower() in unregistered(store):
        raise ArmError(
            "MissingSubscriptionRegistration",
            f"The subscription is not registered to use namespace '{name}'. See "
            "https://aka.ms/rps-not-found for how to register subscriptions.",
            status=409,
        )


def namespaces(scope: str, missing: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """All of them; `scope` is the subscription's id, or nothing for the tenant."""
    spaces: dict[str, list[dict[str, Any]]] = {}
    for provider in PROVIDERS.values():
        namespace, _, kind = provider.type.partition("/")
        places: list[str] = [*REGIONS] if provider.location == "region" else []
        if provider.location == "global":
            places = ["global"]
        spaces.setdefault(namespace, []).append(
            _type(namespace, kind, places, tags=provider.tracked)
        )
    own = "Microsoft.Resources"
    spaces[own] = [
        *(_type(own, kind, [*REGIONS], tags=True) for kind in _OWN),
        *spaces.get(own, []),
    ]
    return [
        {
            "id": f"{scope}/providers/{name}",
            "namespace": name,
            "registrationPolicy": "RegistrationRequired",
            "registrationState": "Unregistered" if name.lower() in missing else "Registered",
            "resourceTypes": kinds,
        }
        for name, kinds in sorted(spaces.items())
    ]


def namespace(scope: str, name: str, missing: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One of them.

    Raises:
        ArmError: there is none of this name.
    """
    for one in namespaces(scope, missing):
        if one["namespace"].lower() == name.lower():
            return one
    raise ArmError(
        "InvalidResourceNamespace", f"The resource namespace '{name}' is invalid.", status=404
    )


def _type(namespace: str, kind: str, places: list[str], *, tags: bool) -> dict[str, Any]:
    versions = list(versions_of(f"{namespace}/{kind}"))
    stable = [one for one in versions if "preview" not in one]
    return {
        "resourceType": kind,
        "locations": places,
        "apiVersions": versions,
        "defaultApiVersion": stable[0] if stable else None,
        "capabilities": "SupportsTags, SupportsLocation" if tags else "None",
    }
