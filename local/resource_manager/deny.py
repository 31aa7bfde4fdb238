"""Deny settings of stacks, held against whoever writes past the stack.

The stack itself is never held up by them. Reading is free.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record, Store

_WRITING = {"write": ("denywriteanddelete",), "delete": ("denydelete", "denywriteanddelete")}


def refuse_denied(store: Store, target: ResourceId, action: str, principal: str) -> None:
    """Refuse a write or delete (or an action, as a write) that a stack denies.

    Deleting a group, or a resource with children, is deleting what is below it.

    Raises:
        ArmError: `DenyAssignmentAuthorizationFailed`.
    """
    verb = f"{target.type}/{action}"
    for record in _concerned(store, target, deleting=action == "delete"):
        stack = store.get(record.stack) if record.stack else None
        if stack is None:
            continue
        deny = stack.properties["denySettings"]
        below = not target.within(record.id) or record.key == target.key
        if deny["mode"].lower() not in _WRITING["delete" if action == "delete" else "write"]:
            continue
        if not below and not deny["applyToChildScopes"]:
            continue
        if principal in deny["excludedPrincipals"]:
            continue
        if any(fnmatchcase(verb.lower(), one.lower()) for one in deny["excludedActions"]):
            continue
        raise ArmError(
            "DenyAssignmentAuthorizationFailed",
            f"The client '{principal}' with object id '{principal}' has permission to perform "
            f"action '{verb}' on scope '{target}'; however, the access is denied because of the "
            f"deny assignment with name 'Deny assignment created by Deployment Stack "
            f"{stack.id}' at scope '{record.id}'.",
            status=403,
        )


def _concerned(store: Store, target: ResourceId, *, deleting: bool) -> Iterator[Record]:
    above: ResourceId | None = target
    while above is not None:
        found = store.get(above)
        if found is not None:
            yield found
        if above.parent is not None:
            above = above.parent
        elif above.parts:
            above = above.scope
        else:
            above = None
    if deleting:
        yield from store.below(target)
