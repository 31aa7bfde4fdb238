"""Make what the spaces of each cluster share: `infra/cluster.json`, through the running server.

A template that was deployed already is not deployed again: its hash, with the parameters, is kept
in the home, and the SDK is then not even imported.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from local.app_settings import CLUSTERS
from local.home import PROJECT, replace_text
from local.resource_manager.cloud import Identities

if TYPE_CHECKING:
    from local.home import Home


async def seed(home: Home) -> None:
    """Deploy what is not deployed yet, all clusters at once; returns when all is there.

    Raises:
        StackError: a cluster cannot be made.
    """
    bodies = _bodies(home)
    digest = hashlib.sha256(json.dumps(bodies, sort_keys=True).encode()).hexdigest()
    done = home.path("resource_manager", "seeded")
    if done.exists() and done.read_text() == digest:
        return
    from local.resource_manager.seeding import deploy_all  # noqa: PLC0415 — imports the SDK

    await deploy_all(home, bodies)
    replace_text(done, digest)


def _bodies(home: Home) -> dict[str, Any]:
    template = json.loads((PROJECT / "infra" / "cluster.json").read_bytes())
    principal = Identities(home).principal("control-plane")
    return {
        cluster: {
            "location": location,
            "properties": {
                "mode": "Incremental",
                "template": template,
                "parameters": {
                    "cluster": {"value": cluster},
                    "allowSharedKey": {"value": True},
                    "controlPlanePrincipalId": {"value": principal},
                },
            },
        }
        for cluster, location in CLUSTERS.items()
    }
