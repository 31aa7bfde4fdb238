"""Make one resource so, or make it gone: intent first, then the provider, then the fact.

A record in the state Creating is the intent; it stands before anything is started, so that
whatever a killed process had begun is known by its name afterwards.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import re
import time
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.errors import StackError
from local.resource_manager.errors import (
    ArmError,
    group_being_deleted,
    group_not_found,
    not_found,
)
from local.resource_manager.ids import GROUP_TYPE, STACK_TYPE, ResourceId, parse
from local.resource_manager.namespaces import refuse_unregistered
from local.resource_manager.providers import NAMESPACES, PROVIDERS
from local.resource_manager.providers.base import (
    Routing,
    check_location,
    normal_location,
    unknown_type,
)
from local.resource_manager.providers.compute import SCALE_SET
from local.resource_manager.providers.front_door import front_door_table
from local.resource_manager.providers.versions import REGIONS
from local.resource_manager.store import Record
from local.resource_manager.tags import check_tags
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.resource_manager.cloud import Cloud
    from local.resource_manager.faults import Faults
    from local.resource_manager.providers import Provider

log = logging.getLogger("local.resource_manager")
_GROUP_NAME = re.compile(r"[-\w.()]{1,90}")


class Resources:
    """Resources and resource groups of the one subscription."""

    def __init__(self, cloud: Cloud, faults: Faults) -> None:
        self.cloud = cloud
        self._faults = faults
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def provider(self, target: ResourceId) -> Provider:
        """The provider of a type.

        Raises:
            ArmError: the type is not supported.
        """
        found = PROVIDERS.get(target.type.lower())
        if found is None:
            raise unknown_type(target.type, NAMESPACES, status=404)
        return found

    def check(self, target: ResourceId, body: dict[str, Any]) -> None:
        """Refuse a resource before anything is made; UNKNOWN may stand in the body.

        Raises:
            ArmError: type, location or body are wrong.
        """
        provider = PROVIDERS.get(target.type.lower())
        if provider is None:
            raise unknown_type(target.type, NAMESPACES)
        refuse_unregistered(self.cloud.store, target.type)
        check_location(provider, body.get("location"), target)
        check_tags(body.get("tags"))
        provider.check(body, target)

    async def put(
        self, target: ResourceId, body: dict[str, Any], *, stack: str | None = None
    ) -> Record:
        """Create or update one resource, by `stack` or by hand.

        Raises:
            ArmError: it cannot be.
        """
        provider = self.provider(target)
        async with self._locks[target.key]:
            before = self.cloud.store.get(target)
            self.check(target, body)
            self._check_surroundings(provider, target, before, stack)
            shown, hidden = split(provider, body)
            hidden = {**(before.hidden if before else {}), **hidden}
            owner = stack or (before.stack if before else None)
            stands = before is not None and before.state in ("Succeeded", "Updating")
            kept = Record(
                id=before.id if before else target,
                body=_over(before, shown) if before and stands else shown,
                hidden=hidden,
                stack=owner,
                state="Updating" if stands else "Creating",
                declared=before.declared if before and stands else None,
                power=before.power if before else None,
            )
            self.cloud.store.put(kept)
            computed = await self._realised(provider, kept)
            done = Record(
                id=kept.id,
                body={**shown, "properties": {**(shown.get("properties") or {}), **computed}},
                hidden=hidden,
                stack=owner,
                declared=shown,
                power=kept.power,
            )
            self.cloud.store.put(done)
        if _routes_change(provider, before, done):
            self.refresh_routes()
        return done

    async def power(self, target: ResourceId, verb: str) -> None:
        """Stop, start or restart what a resource is on this machine; it may be repeated.

        Raises:
            ArmError: it cannot be done as the resource stands, or was tried and failed.
        """
        provider = self.provider(target)
        what = provider.powers[verb]
        async with self._locks[target.key]:
            found = self.cloud.store.get(target)
            if found is None:
                raise not_found(str(target))
            provider.check_power(verb, found)
            begun = replace(
                found,
                power=what.rests,
                state="Updating",
                body={**found.body, "properties": {**found.properties, **what.meanwhile}},
            )
            self.cloud.store.put(begun)
            await self._done_or_failed(
                begun, verb, lambda: provider.set_power(verb, begun, self.cloud)
            )
            properties = {**begun.properties, **what.afterwards}
            body = {**begun.body, "properties": properties}
            self.cloud.store.put(replace(begun, state="Succeeded", body=body))
        if provider.type == SCALE_SET:
            self.refresh_routes()

    async def remove(self, target: ResourceId) -> None:
        """Delete one resource with its children and extensions; a missing one is no error.

        Raises:
            ArmError: a part of the cloud could not let go of it.
        """
        await self.remove_many([target])

    async def remove_many(self, targets: list[ResourceId]) -> None:
        """Delete several resources, in an order that suits them; missing ones are no error."""
        doomed: dict[str, Record] = {}
        for target in targets:
            found = self.cloud.store.get(target)
            if found is not None:
                below = self.cloud.store.below(found.id) if found.id.parts else []
                doomed |= {one.key: one for one in (*below, found)}
        await self._remove_all(list(doomed.values()))

    async def remove_group(self, target: ResourceId) -> None:
        """Delete a group with all it holds; a missing one is no error."""
        await self._remove_all(self.cloud.store.below(target))
        self.cloud.store.delete(target)

    def preview(self, target: ResourceId, body: dict[str, Any]) -> dict[str, Any]:
        """A resource as it is answered while it is being made."""
        provider = self.provider(target)
        before = self.cloud.store.get(target)
        shown, _ = split(provider, body)
        state = "Creating" if before is None else "Updating"
        return Record(id=before.id if before else target, body=shown, state=state).shown()

    def check_surroundings(self, target: ResourceId) -> None:
        """Refuse a resource whose group or parent is not there, or whose name is taken.

        Raises:
            ArmError: as said.
        """
        before = self.cloud.store.get(target)
        self._check_surroundings(self.provider(target), target, before, None)

    def put_group(
        self, target: ResourceId, body: dict[str, Any], *, stack: str | None = None
    ) -> tuple[Record, bool]:
        """Create or update a resource group; whether it is new.

        Raises:
            ArmError: the place is missing, unknown, or another one than before.
        """
        before = self.cloud.store.get(target)
        check_group(target, body)
        if before is not None and before.state == "Deleting":
            raise group_being_deleted(target.name)
        place = normal_location(body["location"])
        if before is not None and before.body["location"] != place:
            raise ArmError(
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{place}'. The Resource group already exists "
                f"in location '{before.body['location']}'.",
                status=409,
            )
        kept = {"location": place, "tags": body.get("tags") or {}, "properties": {}}
        if body.get("managedBy") is not None:
            kept["managedBy"] = body["managedBy"]
        owner = stack or (before.stack if before else None)
        made = Record(id=before.id if before else target, body=kept, stack=owner)
        return self.cloud.store.put(made), before is None

    def group(self, name: str) -> dict[str, Any] | None:
        """The body of a group, for `resourceGroup()`."""
        found = self.cloud.store.get(ResourceId(self.cloud.subscription, name))
        return None if found is None else found.body

    def refresh_routes(self) -> None:
        """Tell the front door what the recorded profiles mean now."""
        self.cloud.routes.replace(front_door_table(self.cloud))

    def _check_surroundings(
        self, provider: Provider, target: ResourceId, before: Record | None, stack: str | None
    ) -> None:
        store = self.cloud.store
        if target.group:
            group = store.get(ResourceId(target.subscription, target.group))
            if group is None:
                raise group_not_found(target.group)
            if group.state == "Deleting":
                raise group_being_deleted(target.group)
        if before is not None:
            provider.check_rest(before)
        self._check_above(target)
        if provider.taken and before is None:
            for other in store.of_type(provider.type):
                if other.id.name.lower() == target.name.lower():
                    raise ArmError(
                        provider.taken,
                        f"The name '{target.name}' is already taken.",
                        status=409,
                    )
        if stack and before and before.stack and before.stack != stack:
            raise ArmError(
                "ResourceManagedByAnotherStack",
                f"The resource '{target}' is managed by the deployment stack "
                f"'{parse(before.stack).name}'.",
                status=409,
            )

    def _check_above(self, target: ResourceId) -> None:
        store = self.cloud.store
        above = target.parent or (target.scope if target.scope.parts else None)
        if above is not None:
            parent = store.get(above)
            if parent is None or parent.state in ("Creating", "Deleting"):
                raise ArmError(
                    "ParentResourceNotFound",
                    f"Failed to perform 'write' on resource(s) of type '{target.type}', because "
                    f"the parent resource '{above}' could not be found.",
                    status=404,
                )
            if target.parent is not None and parent.type in PROVIDERS:
                PROVIDERS[parent.type].check_rest(parent)

    async def _realised(self, provider: Provider, record: Record) -> dict[str, Any]:
        started = time.monotonic()
        computed = await self._done_or_failed(
            record, "put", lambda: provider.realise(record, self.cloud)
        )
        took_ms = (time.monotonic() - started) * 1000
        log.info("resource.made %s %s %.0f ms", record.id.type, record.id.full_name, took_ms)
        return computed

    async def _done_or_failed[T](
        self, record: Record, verb: str, work: Callable[[], Awaitable[T]]
    ) -> T:
        try:
            await self._faults.resource(record.id, verb)
            return await work()
        except asyncio.CancelledError:
            raise  # a process that ends: the record stays as it is, and is resumed
        except Exception as error:
            self.cloud.store.update(record.id, state="Failed")
            raise _as_arm_error(error, record) from error

    async def _remove_all(self, records: list[Record]) -> None:
        ranks: defaultdict[int, list[Record]] = defaultdict(list)
        for record in records:
            provider = PROVIDERS.get(record.type)
            depth = len(record.id.parts[-1].pairs) if record.id.parts else 0
            rank = provider.removal_rank if provider else 0
            ranks[rank * 10 - depth].append(record)
        for rank in sorted(ranks):
            results = await asyncio.gather(
                *(self._remove_one(record) for record in ranks[rank]), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        if any(_is_routing(record) for record in records):
            self.refresh_routes()

    async def _remove_one(self, record: Record) -> None:
        async with self._locks[record.key]:
            found = self.cloud.store.get(record.id)
            if found is None:
                return
            self.cloud.store.update(record.id, state="Deleting")
            provider = PROVIDERS.get(record.type)
            if provider is not None:
                if provider.routing is Routing.ALWAYS:
                    self.refresh_routes()  # no request should still be sent to what is ending
                try:
                    await self._faults.resource(record.id, "delete")
                    await provider.remove(found, self.cloud)
                except Exception as error:
                    raise _as_arm_error(error, found) from error
            self.cloud.store.delete(record.id)


def check_group(target: ResourceId, body: dict[str, Any]) -> None:
    """Refuse a resource group without a place or with a wrong name.

    Raises:
        ArmError: as said.
    """
    name = target.name
    if not _GROUP_NAME.fullmatch(name) or name.endswith("."):
        raise ArmError(
            "InvalidResourceGroup",
            f"The provided resource group name '{name}' is invalid. It has at most 90 letters, "
            "digits, '-', '.', '(', ')' or '_', and does not end with a period.",
        )
    check_tags(body.get("tags"))
    place = body.get("location")
    if place is None:
        raise ArmError("LocationRequired", "The location property is required for a group.")
    if place is not UNKNOWN and normal_location(place) not in REGIONS:
        raise ArmError(
            "LocationNotAvailableForResourceGroup",
            f"The provided location '{place}' is not available for resource group. List of "
            f"available regions is '{','.join(REGIONS)}'.",
        )


def is_listed(record: Record) -> bool:
    """Whether it stands in lists of resources: tracked types, not groups or deployments."""
    if record.type in (GROUP_TYPE.lower(), STACK_TYPE.lower()):
        return False
    provider = PROVIDERS.get(record.type)
    return provider is not None and provider.tracked


def _as_arm_error(error: Exception, record: Record) -> ArmError:
    """What a part of the cloud raised, in the words of the wire."""
    if isinstance(error, ArmError):
        return error
    if not isinstance(error, StackError | OSError):
        log.exception("resource.broke %s", record.id.full_name)
    what = f"{record.id.full_name}: {error or type(error).__name__}"
    return ArmError("InternalServerError", what, status=500)


def _is_routing(record: Record) -> bool:
    provider = PROVIDERS.get(record.type)
    return provider is not None and provider.routing is not Routing.NEVER


def _routes_change(provider: Provider, before: Record | None, after: Record) -> bool:
    if provider.type == SCALE_SET:
        return True  # a restarted instance may have a new address, with the same model
    if before is None:
        return provider.routing is Routing.ALWAYS
    return _is_routing(after) and (before.body, before.state) != (after.body, after.state)


def _over(before: Record, shown: dict[str, Any]) -> dict[str, Any]:
    """While it is updated, what was computed before still holds: others may ask for it."""
    return {**shown, "properties": {**before.properties, **(shown.get("properties") or {})}}


def split(provider: Provider, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The body without its write-only values, and these by path."""
    shown, hidden = copy.deepcopy(body), {}
    for path in provider.hidden:
        *above, last = path.split(".")
        holder: Any = shown
        for step in above:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and holder.get(last) is not None:
            hidden[path] = holder.pop(last)
    return shown, hidden
