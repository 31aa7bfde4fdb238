"""The namespaces of resource types as they are told to who asks for them."""

from __future__ import annotations

from typing import Any

from local.resource_manager.errors import ArmError
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.providers.versions import REGIONS, versions_of

_OWN = ("resourceGroups", "deployments", "deployments/operations", "deploymentStacks",
        "deploymentStacksWhatIfResults", "tags", "subscriptions")  # fmt: skip


def namespaces(scope: str) -> list[dict[str, Any]]:
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
            "registrationState": "Registered",
            "resourceTypes": kinds,
        }
        for name, kinds in sorted(spaces.items())
    ]


def namespace(scope: str, name: str) -> dict[str, Any]:
    """One of them.

    Raises:
        ArmError: there is none of this name.
    """
    for one in namespaces(scope):
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
