"""What became of each resource of a deployment, and what a template is made of, for its readers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.resource_manager.functions.hashing import murmur64
from local.resource_manager.ids import ResourceId

if TYPE_CHECKING:
    from local.resource_manager.errors import ArmError
    from local.resource_manager.graph import Graph


@dataclass(slots=True)
class Steps:
    """The operations of one deployment, in the order in which they ended."""

    deployment: ResourceId
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, target: ResourceId, error: ArmError | None, *, took_s: float, at: str
    ) -> None:
        """One resource was made, or was not."""
        said: dict[str, Any] = {
            "provisioningOperation": "Create",
            "provisioningState": "Succeeded" if error is None else "Failed",
            "timestamp": at,
            "duration": f"PT{took_s:.3f}S",
            "statusCode": "OK" if error is None else _status(error),
            "targetResource": _named(target),
        }
        if error is not None:
            said["statusMessage"] = {"status": "Failed", "error": error.inner()}
        self._append(target.key, said)

    def evaluated(self, at: str) -> None:
        """The outputs are there: the last operation of one that succeeded."""
        said = {
            "provisioningOperation": "EvaluateDeploymentOutput",
            "provisioningState": "Succeeded",
            "timestamp": at,
            "duration": "PT0S",
            "statusCode": "OK",
        }
        self._append("outputs", said)

    def _append(self, key: str, properties: dict[str, Any]) -> None:
        number = (
            hashlib.sha256(f"{self.deployment.key} {key}".encode()).hexdigest()[:16].upper()
        )
        self.rows.append(
            {
                "id": f"{self.deployment}/operations/{number}",
                "operationId": number,
                "properties": properties,
            }
        )


def facts(graph: Graph) -> dict[str, Any]:
    """Which namespaces a template needs, and who waits for whom."""
    spaces: dict[str, dict[str, dict[str, Any]]] = {}
    dependencies: list[dict[str, Any]] = []
    for node in graph.nodes.values():
        namespace, _, kind = node.id.type.partition("/")
        place = node.raw.get("location")
        places = [place] if isinstance(place, str) and not place.startswith("[") else [None]
        spaces.setdefault(namespace, {})[kind.lower()] = {
            "resourceType": kind,
            "locations": places,
        }
        first = [graph.nodes[key].id for key in node.after if key in graph.nodes]
        if first:
            dependencies.append(
                {**_named(node.id), "dependsOn": [_named(one) for one in first]}
            )
    return {
        "providers": [
            {"namespace": space, "resourceTypes": list(kinds.values())}
            for space, kinds in spaces.items()
        ],
        "dependencies": dependencies,
    }


def template_hash(template: Any) -> str:  # noqa: ANN401 — JSON
    """A number that two templates share when they say the same; not the service's own."""
    return str(murmur64(json.dumps(template, sort_keys=True).encode()))


def _named(target: ResourceId) -> dict[str, Any]:
    return {
        "id": str(target),
        "resourceType": target.type,
        "resourceName": target.full_name,
    }


def _status(error: ArmError) -> str:
    known = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}
    return known.get(error.status, "InternalServerError")
