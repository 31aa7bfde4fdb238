"""Virtual machine scale sets: one space process per instance, spread over zones.

An instance reads its settings from the vault that the set's user data names, as the image's boot
agent does on Azure; it may, if an identity of the set holds *Key Vault Secrets User* there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from local.resource_manager.errors import ArmError
from local.resource_manager.ids import ResourceId, parse
from local.resource_manager.providers.base import Power, Provider, Routing, at, one_of
from local.resource_manager.providers.identity import IDENTITY, may_read_secrets
from local.resource_manager.providers.network import check_references
from local.resource_manager.providers.vault import VAULT
from local.resource_manager.sizes import SIZES
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from local.compute import Instance, ScaleSet
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.store import Record

SCALE_SET = "Microsoft.Compute/virtualMachineScaleSets"
_USER_DATA = "properties.virtualMachineProfile.userData"
_MAX_INSTANCES = 100


class ScaleSets(Provider):
    """`Microsoft.Compute/virtualMachineScaleSets`, flexible orchestration."""

    type = SCALE_SET
    required = ("sku.name", "sku.capacity", "properties.orchestrationMode")
    hidden = (_USER_DATA, "properties.virtualMachineProfile.osProfile.adminPassword")
    taken = "LocalNameTaken"
    routing = Routing.ALWAYS
    removal_rank = 20
    powers: ClassVar[dict[str, Power]] = {
        "deallocate": Power(rests="deallocated"),
        "poweroff": Power(rests="stopped"),
        "start": Power(),
        "restart": Power(),
    }
    summary = (
        "one space process per instance, a zone each, with the size's local memory limit; a "
        "changed `virtualMachineProfile` restarts the instances one by one; `deallocate`, "
        "`powerOff`, `start`, `restart` of the whole set"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Size, number, zones and mode."""
        super().check(body, target)
        size, capacity = at(body, "sku.name"), at(body, "sku.capacity")
        if size is not UNKNOWN and str(size).lower() not in SIZES:
            raise ArmError(
                "InvalidParameter",
                f"The value {size} provided for the VM size is not valid; known here are "
                f"{', '.join(one.name for one in SIZES.values())}.",
                target="sku.name",
            )
        if capacity is not UNKNOWN and not (
            isinstance(capacity, int) and 0 <= capacity <= _MAX_INSTANCES
        ):
            raise ArmError(
                "InvalidParameter", f"The capacity must be 0 to {_MAX_INSTANCES}.", target="sku"
            )
        mode = at(body, "properties.orchestrationMode")
        one_of(mode, ("Flexible",), "properties.orchestrationMode")
        zones = body.get("zones")
        if isinstance(zones, list) and any(zone not in ("1", "2", "3") for zone in zones):
            raise ArmError(
                "InvalidParameter", f"The zones {zones} are not '1', '2', '3'.", target="zones"
            )

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Instances as declared; they may still wait for their settings."""
        check_references(record, cloud)
        await cloud.compute.ensure(scale_set_of(record, cloud))
        return {"uniqueId": hashlib.sha256(record.key.encode()).hexdigest()[:32]}

    def check_power_argument(self, argument: Any) -> None:  # noqa: ANN401 — as it came
        """All instances or none: single ones are not told apart here."""
        named = argument.get("instanceIds") if isinstance(argument, dict) else None
        if named and named != ["*"]:
            raise ArmError(
                "OperationNotAllowed",
                "The local Resource Manager stops and starts all instances of a scale set, not "
                "those named by 'instanceIds'.",
                status=409,
            )

    def check_power(self, verb: str, record: Record) -> None:
        """What does not run is not restarted."""
        if verb == "restart" and record.power is not None:
            raise ArmError(
                "OperationNotAllowed",
                f"Operation 'restart' is not allowed on '{record.id.name}', which is "
                f"{record.power}.",
                status=409,
            )

    async def set_power(self, verb: str, record: Record, cloud: Cloud) -> None:
        """End or start its processes."""
        if verb == "restart":
            await cloud.compute.restart(record.id.name)
        else:
            await cloud.compute.ensure(scale_set_of(record, cloud))

    async def view(
        self, path: tuple[str, ...], record: Record, cloud: Cloud
    ) -> dict[str, Any] | None:
        """`instanceView` of the set or of one instance."""
        match [one.lower() for one in path]:
            case ["instanceview"]:
                return _instance_view(record, cloud.compute.instances(record.id.name))
            case ["virtualmachines", name, "instanceview"]:
                for one in cloud.compute.instances(record.id.name):
                    if one.id.lower() == name:
                        return {"statuses": _statuses(record, one)}
        return None

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """End the instances."""
        await cloud.compute.delete(record.id.name)

    def collection(
        self, name: str, record: Record, cloud: Cloud
    ) -> list[dict[str, Any]] | None:
        """`virtualMachines`: the instances."""
        if name.lower() != "virtualmachines":
            return None
        return [_shown(one, record) for one in cloud.compute.instances(record.id.name)]


def scale_set_of(record: Record, cloud: Cloud) -> ScaleSet:
    """What the compute part is to keep running for a recorded scale set."""
    from local.compute import ScaleSet  # noqa: PLC0415 — only where instances are started

    size = SIZES[str(at(record.body, "sku.name")).lower()]
    boot = _boot(record)
    uri = str(boot.get("vaultUri", ""))
    return ScaleSet(
        name=record.id.name,
        zones=tuple(record.body.get("zones") or ("1",)),
        capacity=at(record.body, "sku.capacity"),
        memory_mib=size.local_memory_mib,
        cpus=float(size.cpus),
        vault_uri=uri,
        vault_token=_vault_token(record, uri, cloud),
        tags={str(k): str(v) for k, v in (record.body.get("tags") or {}).items()},
        revision=_revision(record),
        running=record.power is None,
    )


def _boot(record: Record) -> dict[str, Any]:
    text = record.hidden.get(_USER_DATA)
    if not text:
        return {}
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ArmError(
            "InvalidParameter",
            "The userData is not base64 of a JSON object, which the boot agent reads.",
            target="userData",
        ) from error
    return found if isinstance(found, dict) else {}


def _vault_token(record: Record, uri: str, cloud: Cloud) -> str:
    vault = next(
        (
            one
            for one in cloud.store.of_type(VAULT)
            if str(one.properties.get("vaultUri", "-")).rstrip("/") == uri.rstrip("/")
        ),
        None,
    )
    if vault is None:
        return ""
    named = at(record.body, "identity.userAssignedIdentities") or {}
    for text in named:
        identity = cloud.store.get(parse(text))
        if identity is None or identity.type != IDENTITY.lower():
            raise ArmError(
                "FailedIdentityOperation", f"The identity '{text}' was not found.", status=400
            )
        if may_read_secrets(cloud, identity.properties["principalId"], vault.id):
            return cloud.vaults.token(vault.id.name)
    return ""


def _revision(record: Record) -> str:
    model = {
        "profile": record.properties.get("virtualMachineProfile"),
        "boot": _boot(record),
        "size": at(record.body, "sku.name"),
    }
    text = json.dumps(model, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(instance: Instance, record: Record) -> dict[str, Any]:
    owner: ResourceId = record.id
    return {
        "id": str(owner.child("virtualMachines", instance.id)),
        "name": instance.id,
        "instanceId": instance.id,
        "type": f"{SCALE_SET}/virtualMachines",
        "location": record.body.get("location"),
        "zones": [instance.zone],
        "sku": record.body.get("sku"),
        "tags": record.body.get("tags"),
        "properties": {
            "provisioningState": "Failed" if _is_dead(record, instance) else "Succeeded",
            "powerState": _power_of(record, instance)[1],
            "instanceView": {"statuses": _statuses(record, instance)},
            # What follows exists on this machine only.
            "healthy": instance.healthy,
            "address": instance.address,
            "pid": instance.pid,
            "limits": {
                "memoryMib": instance.memory_limit_mib,
                "cpus": instance.cpu_limit,
                "mechanism": instance.mechanism,
            },
        },
    }


def _is_dead(record: Record, instance: Instance) -> bool:
    """Whether it has ended, and nobody asked for it."""
    return record.power is None and instance.pid is None


def _power_of(record: Record, instance: Instance) -> tuple[str, str]:
    state = "running" if instance.pid else record.power or "stopped"
    return f"PowerState/{state}", f"VM {state}"


def _statuses(record: Record, instance: Instance) -> list[dict[str, str]]:
    provisioned = "failed" if _is_dead(record, instance) else "succeeded"
    code, shown = _power_of(record, instance)
    return [
        _status(f"ProvisioningState/{provisioned}", f"Provisioning {provisioned}"),
        _status(code, shown),
    ]


def _status(code: str, shown: str) -> dict[str, str]:
    return {
        "code": code,
        "level": "Error" if code.endswith("/failed") else "Info",
        "displayStatus": shown,
    }


def _instance_view(record: Record, instances: list[Instance]) -> dict[str, Any]:
    codes = Counter(said["code"] for one in instances for said in _statuses(record, one))
    state = record.state.lower()
    return {
        "virtualMachine": {
            "statusesSummary": [
                {"code": code, "count": count} for code, count in sorted(codes.items())
            ]
        },
        "statuses": [_status(f"ProvisioningState/{state}", f"Provisioning {state}")],
    }
