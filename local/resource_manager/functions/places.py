"""Functions of the deployment and of resources: names, ids, and what others have become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import Style, template_function
from local.resource_manager.ids import GROUP_TYPE, ResourceId, parse
from local.resource_manager.values import (
    UNKNOWN,
    NeedsRuntimeError,
    find_name,
    text,
    whole,
)

if TYPE_CHECKING:
    from local.resource_manager.scope import Scope

# Names of Azure's public cloud: what templates build host names from.
_ENVIRONMENT: dict[str, Any] = {
    "name": "AzureCloud",
    "resourceManager": "https://management.azure.com/",
    "authentication": {
        "loginEndpoint": "https://login.microsoftonline.com/",
        "audiences": ["https://management.core.windows.net/", "https://management.azure.com/"],
        "tenant": "common",
        "identityProvider": "AAD",
    },
    "suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"},
}


@template_function("parameters", 1, style=Style.SCOPED)
def _parameters(scope: Scope, name: str) -> Any:  # noqa: ANN401 — template values have no static type
    key = find_name(scope.parameters, text(name, "parameters"))
    if key is None:
        raise TemplateError(f"The template parameter '{name}' is not found")
    return scope.parameters[key]


@template_function("variables", 1, style=Style.SCOPED)
def _variables(scope: Scope, name: str) -> Any:  # noqa: ANN401 — see above
    if scope.variables is None:
        raise TemplateError("The function 'variables' is not expected at this location")
    return scope.variables(scope, text(name, "variables"))


@template_function("copyIndex", 0, 2, style=Style.SCOPED)
def _copy_index(scope: Scope, *arguments: Any) -> int:  # noqa: ANN401 — see above
    name = arguments[0] if arguments and isinstance(arguments[0], str) else None
    offset = whole(arguments[-1], "copyIndex") if len(arguments) > (name is not None) else 0
    index = scope.loop if name is None else scope.loops.get(name.lower())
    if index is None:
        where = f" of the loop '{name}'" if name else ""
        raise TemplateError(f"The function 'copyIndex'{where} is not expected at this location")
    return index + offset


@template_function("deployment", 0, style=Style.SCOPED)
def _deployment(scope: Scope) -> dict[str, Any]:
    place = scope.place
    shown: dict[str, Any] = {
        "name": place.deployment,
        "id": str(place.id.under("Microsoft.Resources/deployments", place.deployment)),
        "type": "Microsoft.Resources/deployments",
        "properties": {"template": dict(scope.template), "mode": "Incremental"},
    }
    if place.group is None:
        shown["location"] = place.location
    return shown


@template_function("deployer", 0, style=Style.SCOPED)
def _deployer(scope: Scope) -> dict[str, Any]:
    place = scope.place
    return {"objectId": place.principal, "tenantId": place.tenant, "userPrincipalName": ""}


@template_function("environment", 0)
def _environment() -> dict[str, Any]:
    return _ENVIRONMENT


@template_function("subscription", 0, style=Style.SCOPED)
def _subscription(scope: Scope) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{scope.place.subscription}",
        "subscriptionId": scope.place.subscription,
        "tenantId": scope.place.tenant,
        "displayName": "KPAX local",
    }


@template_function("tenant", 0, style=Style.SCOPED)
def _tenant(scope: Scope) -> dict[str, Any]:
    return {"tenantId": scope.place.tenant, "displayName": "KPAX local"}


@template_function("resourceGroup", 0, style=Style.SCOPED)
def _resource_group(scope: Scope) -> dict[str, Any]:
    place = scope.place
    if place.group is None:
        raise TemplateError(
            "The template function 'RESOURCEGROUP' is not expected at this location: "
            "the deployment is not at resource group scope"
        )
    found = place.read_group(place.group) or {"location": UNKNOWN, "tags": UNKNOWN}
    return {
        "id": str(place.id),
        "name": place.group,
        "type": GROUP_TYPE,
        "location": found["location"],
        "tags": found.get("tags") or {},
        "properties": {"provisioningState": "Succeeded"},
    }


@template_function("resourceId", 2, None, style=Style.SCOPED)
def _resource_id(scope: Scope, *arguments: str) -> str:
    before, kind, names = _split(arguments, "resourceId")
    subscription, group = scope.place.subscription, scope.place.group
    if len(before) == 2:
        subscription, group = before
    elif len(before) == 1:
        group = before[0]
    if kind.lower() == GROUP_TYPE.lower():
        return str(ResourceId(subscription, names[0]))
    return _joined(ResourceId(subscription, group), kind, names, "resourceId")


@template_function("subscriptionResourceId", 2, None, style=Style.SCOPED)
def _subscription_resource_id(scope: Scope, *arguments: str) -> str:
    before, kind, names = _split(arguments, "subscriptionResourceId")
    subscription = before[0] if before else scope.place.subscription
    if kind.lower() == GROUP_TYPE.lower():
        return str(ResourceId(subscription, names[0]))
    return _joined(ResourceId(subscription), kind, names, "subscriptionResourceId")


@template_function("tenantResourceId", 2, None)
def _tenant_resource_id(*arguments: str) -> str:
    _, kind, names = _split(arguments, "tenantResourceId")
    full = _joined(ResourceId("-"), kind, names, "tenantResourceId")
    return full.removeprefix("/subscriptions/-")


@template_function("extensionResourceId", 3, None)
def _extension_resource_id(base: str, kind: str, *names: str) -> str:
    return _joined(parse(text(base, "extensionResourceId")), kind, names, "extensionResourceId")


@template_function("reference", 1, 3, style=Style.SCOPED)
def _reference(scope: Scope, target: str, version: str = "", how: str = "") -> Any:  # noqa: ANN401 — see above
    del version  # every version of a resource reads the same here
    if scope.runtime is None:
        raise NeedsRuntimeError("reference")
    found = _target(scope, text(target, "reference"))
    return scope.runtime.reference(found, full=how.lower() == "full")


@template_function("references", 1, 2, style=Style.SCOPED)
def _references(scope: Scope, symbol: str, how: str = "") -> list[Any]:
    name = text(symbol, "references")
    if name not in scope.loops_of_symbols:
        raise TemplateError(f"'{name}' is no symbolic name of a resource loop")
    if scope.runtime is None:
        raise NeedsRuntimeError("references")
    runtime, full = scope.runtime, how.lower() == "full"
    return [runtime.reference(one, full=full) for one in scope.loops_of_symbols[name]]


@template_function("list*", 1, 3, style=Style.SCOPED)
def _list(scope: Scope, target: str, version: str = "", argument: Any = None) -> Any:  # noqa: ANN401 — see above
    raise AssertionError(f"called through `list_call`: {scope, target, version, argument}")


def list_call(scope: Scope, verb: str, arguments: list[Any]) -> Any:  # noqa: ANN401 — see above
    """`listKeys(id, version)` and the like; the verb is the function's own name."""
    if scope.runtime is None:
        raise NeedsRuntimeError(verb)
    found = _target(scope, text(arguments[0], verb))
    return scope.runtime.action(verb, found, arguments[2] if len(arguments) > 2 else None)


@template_function("pickZones", 3, 5)
def _pick_zones(
    namespace: str, kind: str, location: str, count: int = 1, offset: int = 0
) -> list[str]:
    del namespace, kind, location  # every region of the local cloud has zones 1, 2 and 3
    if not 1 <= whole(count, "pickZones") <= 3 or not 0 <= whole(offset, "pickZones") <= 2:
        raise TemplateError("pickZones: a region has three zones")
    return [str(zone) for zone in range(1 + offset, 1 + min(3, offset + count))]


def _target(scope: Scope, name: str) -> ResourceId:
    if name in scope.symbols:
        return scope.symbols[name]
    if name.startswith("/"):
        return parse(name)
    named = [i for i in scope.symbols.values() if i.full_name.lower() == name.lower()]
    if len(named) != 1:
        raise TemplateError(f"The resource '{name}' is not defined in the template")
    return named[0]


def _split(arguments: tuple[str, ...], name: str) -> tuple[list[str], str, list[str]]:
    values = [text(argument, name) for argument in arguments]
    at = next((i for i, value in enumerate(values) if "/" in value), None)
    if at is None or at > 2:
        raise TemplateError(f"{name} expects a resource type such as 'Microsoft.Web/sites'")
    return values[:at], values[at], values[at + 1 :]


def _joined(base: ResourceId, kind: str, names: Any, function: str) -> str:  # noqa: ANN401 — list or tuple of names
    try:
        return str(base.under(kind, "/".join(names)))
    except ValueError as error:
        raise TemplateError(
            f"Unable to evaluate template language function '{function}': the type '{kind}' "
            f"requires {kind.count('/')} resource name argument(s)"
        ) from error
