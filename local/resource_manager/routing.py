"""Which handler a path means."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from local.resource_manager.errors import ArmError
from local.resource_manager.handlers import (
    deployments,
    generic,
    groups,
    stacks,
    subscription,
    tag_names,
)
from local.resource_manager.ids import (
    DEPLOYMENT_TYPE,
    GROUP_TYPE,
    OF_NAMESPACES,
    STACK_TYPE,
    STACK_WHAT_IF_TYPE,
    SUBSCRIPTION_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from local.resource_manager.call import Call
    from local.resource_manager.service import Service

    type Handler = Callable[[Service, Call], Awaitable[web.StreamResponse]]

_THINGS: dict[str, Handler] = {
    SUBSCRIPTION_TYPE.lower(): subscription.itself,
    GROUP_TYPE.lower(): groups.one,
    DEPLOYMENT_TYPE.lower(): deployments.one,
    f"{DEPLOYMENT_TYPE}/operations".lower(): deployments.operation,
    STACK_TYPE.lower(): stacks.one,
    STACK_WHAT_IF_TYPE.lower(): stacks.what_if,
    "microsoft.resources/tags": subscription.tags,
    "microsoft.resources/operationstatuses": subscription.operation,
    "microsoft.resources/operationresults": subscription.operation,
    "microsoft.keyvault/locations/deletedvaults": subscription.deleted_vault,
}
_BELOW: dict[tuple[str, ...], Handler] = {
    (DEPLOYMENT_TYPE.lower(), "validate"): deployments.validate,
    (DEPLOYMENT_TYPE.lower(), "whatif"): deployments.what_if,
    (DEPLOYMENT_TYPE.lower(), "cancel"): deployments.cancel,
    (DEPLOYMENT_TYPE.lower(), "exporttemplate"): deployments.export_template,
    (DEPLOYMENT_TYPE.lower(), "operations"): deployments.operations,
    (STACK_TYPE.lower(), "validate"): stacks.validate,
    (STACK_TYPE.lower(), "exporttemplate"): stacks.export_template,
    (STACK_WHAT_IF_TYPE.lower(), "whatif"): stacks.what_if,
    ("microsoft.keyvault/locations/deletedvaults", "purge"): subscription.deleted_vault,
}
_COLLECTIONS: dict[tuple[str, ...], Handler] = {
    ("resources",): generic.everything,
    ("resourcegroups",): groups.many,
    ("locations",): subscription.locations,
    ("moveresources",): groups.move,
    ("validatemoveresources",): groups.move,
    ("exporttemplate",): groups.export_template,
    ("providers", "microsoft.resources", "deployments"): deployments.many,
    ("providers", "microsoft.keyvault", "deletedvaults"): subscription.deleted_vaults,
    ("providers", "microsoft.resources", "deploymentstacks"): stacks.many,
    ("providers", "microsoft.resources", "deploymentstackswhatifresults"): stacks.what_ifs,
}
_NOT_HERE = {"whatif", "exporttemplate", "cancel"}


def handler_of(service: Service, call: Call) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    """The handler of a call.

    Raises:
        ArmError: there is none.
    """
    return functools.partial(_find(call), service)


def _find(call: Call) -> Handler:
    target, rest = call.path.id, tuple(one.lower() for one in call.path.rest)
    kind = target.type.lower()
    if not rest:
        return _THINGS.get(kind, generic.one)
    if target.parts:
        found = _BELOW.get((kind, *rest))
        if found is not None:
            return found
        if kind in _THINGS or rest[0] in _NOT_HERE or len(rest) > 1:
            raise ArmError(
                "OperationNotSupported",
                f"The local Resource Manager has no '{'/'.join(call.path.rest)}' of "
                f"'{target.type}'.",
                status=404,
            )
        return generic.below
    found = _COLLECTIONS.get(rest)
    if found is not None:
        return found
    if rest[0] == "tagnames" and target.group is None:
        return tag_names.tag_names
    if rest[0] == "providers":
        return (
            generic.by_type
            if len(rest) == 3 and rest[2] not in OF_NAMESPACES
            else subscription.providers
        )
    raise ArmError("InvalidRequestUri", f"'{call.request.path}' names nothing.", status=404)
