"""Deployments: check a whole template, then make its resources, each as soon as it can be.

Nested deployments are resources like others; they run their own template, in a scope of their
own (inner) or in the one around them (outer). What a deployment made is in the ledger it is
given, so that a stack knows what it manages even after a failure.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.apart import apart
from local.resource_manager.errors import (
    ArmError,
    TemplateError,
    bad_request,
    group_not_found,
    not_found,
)
from local.resource_manager.evaluator import is_known, resolve, resolve_known
from local.resource_manager.graph import BODY, Graph, Node, build, is_outer
from local.resource_manager.ids import DEPLOYMENT_TYPE, GROUP_TYPE, ResourceId
from local.resource_manager.links import linked
from local.resource_manager.operations import deployment_failed, now
from local.resource_manager.parameters import shown
from local.resource_manager.providers.versions import check_version
from local.resource_manager.resources import check_group
from local.resource_manager.scope import Place
from local.resource_manager.secret_references import values_of
from local.resource_manager.steps import Steps, facts, template_hash
from local.resource_manager.store import Record
from local.resource_manager.template import Template, read
from local.resource_manager.values import UNKNOWN, NeedsRuntimeError

if TYPE_CHECKING:
    from local.resource_manager.resources import Resources
    from local.resource_manager.scope import Scope

_MAX_NESTING = 5


@dataclass(slots=True)
class Ledger:
    """What one deployment touched, in order, and on whose behalf."""

    stack: str | None = None
    correlation: str = field(default_factory=lambda: str(uuid.uuid4()))
    """What the deployment and those nested in it have in common."""
    made: dict[str, ResourceId] = field(default_factory=dict)
    failed: dict[str, tuple[ResourceId, ArmError]] = field(default_factory=dict)
    allow: Callable[[ResourceId], None] = lambda _: None
    """Raises where the caller may not write."""
    is_canceled: Callable[[], bool] = lambda: False
    """Whether nothing more shall be begun; what runs is left to end."""
    evaluating: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One evaluation at a time: nested deployments share the variables of those around them."""


class Deployments:
    """Checks and runs templates."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._cloud = resources.cloud

    def place(self, target: ResourceId, location: str | None, principal: str = "") -> Place:
        """Where the deployment with this id deploys to, and for whom."""
        return Place(
            subscription=target.subscription,
            tenant=self._cloud.tenant,
            deployment=target.name,
            location=location,
            group=target.group,
            principal=principal,
            read_group=self._resources.group,
        )

    def validate(self, properties: dict[str, Any], place: Place) -> Template:
        """Refuse what can be known to be wrong before anything is made.

        Raises:
            TemplateError: the template is wrong.
            ArmError: a resource, a place or the request is.
        """
        check_properties(properties, place)
        template = read(properties["template"], properties.get("parameters"), place)
        self._check(template, depth=0)
        return template

    def contents(self, template: Template) -> dict[str, Any]:
        """What a template that was validated would make, and what for."""
        graph = build(template)
        made = [node.id for node in graph.nodes.values() if not node.existing]
        return {"validatedResources": [{"id": str(one)} for one in made], **facts(graph)}

    async def run(
        self,
        target: ResourceId,
        properties: dict[str, Any],
        place: Place,
        ledger: Ledger,
        *,
        outer: Scope | None = None,
    ) -> dict[str, Any]:
        """Make it so; the properties that a GET of the deployment shows.

        Raises:
            ArmError: `DeploymentFailed`, with the causes in its details.
        """
        started = time.monotonic()
        async with ledger.evaluating:
            template, graph = await apart(
                _read_and_build,
                properties["template"],
                properties.get("parameters"),
                place,
                outer,
            )
        runtime = _Running(self._resources)
        scope = graph.seen_from(template.scope).with_runtime(runtime)
        record = self._record(target, template, properties, place, ledger)
        steps = Steps(target)
        try:
            await self._make_all(graph, runtime, ledger, steps)
            async with ledger.evaluating:
                outputs = await apart(template.outputs, scope)
        except ArmError as error:
            if error.code == "OperationCanceled":
                self._end(record, "Canceled", started, steps, {})
                raise
            failure = error if error.code == "DeploymentFailed" else deployment_failed([error])
            self._end(record, "Failed", started, steps, {"error": failure.inner()})
            raise failure from error
        done = {
            "outputs": outputs,
            "outputResources": [{"id": str(one)} for one in ledger.made.values()],
            **facts(graph),
        }
        steps.evaluated(now())
        self._end(record, "Succeeded", started, steps, done)
        return done

    def _check(self, template: Template, depth: int) -> None:
        if depth > _MAX_NESTING:
            raise TemplateError(f"Deployments are nested deeper than {_MAX_NESTING} levels")
        try:
            graph = build(template)
        except NeedsRuntimeError as error:
            if error.function:
                raise TemplateError(
                    f"The template function '{error.function}' is not expected at this location"
                ) from error
            return  # names that only a running deployment knows: they are checked then
        template.check_outputs(graph.seen_from(template.scope))
        for node in graph.nodes.values():
            if node.existing:
                continue
            body = _known_body(node)
            _check_version(node, body)
            if node.is_deployment:
                self._check_nested(node, body, depth)
            elif node.id.type == GROUP_TYPE:
                check_group(node.id, body)
            else:
                self._resources.check(node.id, body)

    def _check_nested(self, node: Node, body: dict[str, Any], depth: int) -> None:
        properties = body.get("properties")
        if not isinstance(properties, dict) or not isinstance(node.raw["properties"], dict):
            raise TemplateError(f"The nested deployment '{node.id.name}' has no properties")
        place = self.place(
            node.id,
            body.get("location") or node.scope.place.location,
            node.scope.place.principal,
        )
        raw = properties.get("template")
        if raw is None and "templateLink" in properties:
            if not is_known(properties["templateLink"]):
                return  # it is checked when it is known
            raw = linked(self._cloud.store, properties["templateLink"], node.api_version)
            properties = {**properties, "template": raw}
        check_properties(properties, place, nested=True)
        outer = node.scope if is_outer(node.raw) else None
        given = {
            name: {"value": UNKNOWN} if _is_open(entry) else entry
            for name, entry in _object(properties.get("parameters"), node).items()
        }
        self._check(read(raw, given, place, outer=outer), depth + 1)

    async def _make_all(
        self, graph: Graph, runtime: _Running, ledger: Ledger, steps: Steps
    ) -> None:
        done: dict[str, asyncio.Task[bool]] = {}

        async def make(node: Node) -> bool:
            before = [await done[key] for key in node.after if key in done]
            if not all(before) or ledger.is_canceled():
                return False
            started = time.monotonic()
            error: ArmError | None = None
            try:
                await self._make(node, runtime, ledger)
            except ArmError as failure:
                ledger.failed[node.key] = (node.id, failure)
                error = failure
            steps.add(node.id, error, took_s=time.monotonic() - started, at=now())
            return error is None

        async with asyncio.TaskGroup() as group:
            # Tasks begin after this loop, when every one of them can find the ones it awaits.
            for key, node in graph.nodes.items():
                if not node.existing:
                    done[key] = group.create_task(make(node))
        if ledger.is_canceled():
            raise ArmError("OperationCanceled", "The deployment was canceled.")
        causes = [ledger.failed[key][1] for key in graph.nodes if key in ledger.failed]
        if causes:
            raise deployment_failed(causes)

    async def _make(self, node: Node, runtime: _Running, ledger: Ledger) -> None:
        scope = node.scope.with_runtime(runtime)
        ledger.allow(node.id)
        if node.is_deployment:
            raw = node.raw["properties"]
            async with ledger.evaluating:
                parameters = await apart(resolve, raw.get("parameters") or {}, scope)
                link = await apart(resolve, raw.get("templateLink"), scope)
            template = raw.get("template")
            if template is None:
                template = linked(self._cloud.store, link, node.api_version)
            given = await values_of(self._cloud, parameters, template)
            parameters = given or parameters
            location = resolve(node.raw.get("location"), scope) or scope.place.location
            await self.run(
                node.id,
                {"template": template, "parameters": parameters, "templateLink": link},
                self.place(node.id, location, scope.place.principal),
                ledger,
                outer=scope if is_outer(node.raw) else None,
            )
            return
        ledger.made[node.key] = node.id
        raw = {key: node.raw[key] for key in BODY if key in node.raw}
        async with ledger.evaluating:
            body = await apart(resolve, raw, scope)
        if node.id.type == GROUP_TYPE:
            self._resources.put_group(node.id, body, stack=ledger.stack)
            return
        await self._resources.put(node.id, body, stack=ledger.stack)

    def _record(
        self,
        target: ResourceId,
        template: Template,
        given: dict[str, Any],
        place: Place,
        ledger: Ledger,
    ) -> Record:
        properties = {
            "mode": mode_of(given),
            "templateHash": template_hash(given["template"]),
            "parameters": shown(template.declared, template.values),
            "timestamp": now(),
            "correlationId": ledger.correlation,
        }
        if given.get("templateLink") is not None:
            properties["templateLink"] = given["templateLink"]
        found = self._cloud.store.get(target)
        kept = found.properties if found else {}
        body = {"location": place.location, "properties": {**kept, **properties}}
        if place.group is not None:
            del body["location"]
        if target.group and self._resources.group(target.group) is None:
            raise group_not_found(target.group)
        return self._cloud.store.put(
            Record(
                id=target,
                body={**(found.body if found else {}), **body},
                state="Running",
                stack=ledger.stack,
                hidden={"template": given["template"]},
            )
        )

    def _end(
        self,
        record: Record,
        state: str,
        started: float,
        steps: Steps,
        properties: dict[str, Any],
    ) -> None:
        took = f"PT{time.monotonic() - started:.3f}S"
        kept = {k: v for k, v in record.properties.items() if k not in ("error", "outputs")}
        ended = {**kept, **properties, "timestamp": now(), "duration": took}
        self._cloud.store.put(
            replace(
                record,
                state=state,
                body={**record.body, "properties": ended},
                hidden={**record.hidden, "operations": steps.rows},
            )
        )


def _read_and_build(
    template: Any,  # noqa: ANN401 — as it came
    parameters: Any,  # noqa: ANN401 — as it came
    place: Place,
    outer: Scope | None,
) -> tuple[Template, Graph]:
    found = read(template, parameters, place, outer=outer)
    return found, build(found)


class _Running:
    """What expressions may ask while a deployment runs."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def reference(self, target: ResourceId, *, full: bool) -> Any:  # noqa: ANN401 — JSON
        """What the resource is now."""
        found = self._resources.cloud.store.get(target)
        if found is None:
            raise not_found(str(target))
        seen = found.shown()
        return seen if full else seen["properties"]

    def action(self, verb: str, target: ResourceId, argument: Any) -> Any:  # noqa: ANN401 — JSON
        """What a `list…` call answers."""
        found = self._resources.cloud.store.get(target)
        if found is None:
            raise not_found(str(target))
        provider = self._resources.provider(target)
        return provider.act(verb, found, argument, self._resources.cloud)


def check_properties(properties: Any, place: Place, *, nested: bool = False) -> None:  # noqa: ANN401 — as it came
    """Hold the properties of a deployment against what is taken here.

    Raises:
        ArmError: something is missing, or of the kinds that the local cloud does not have.
    """
    if not isinstance(properties, dict):
        raise bad_request("The request content has no 'properties'.")
    if "template" not in properties:
        raise ArmError(
            "InvalidDeployment",
            "The deployment has no template; one of template or templateLink is required.",
        )
    mode = str(properties.get("mode") or "Incremental")
    if mode.lower() not in ("incremental", "complete"):
        raise bad_request(f"The deployment mode '{mode}' is none of Incremental, Complete.")
    if mode.lower() == "complete" and (nested or place.group is None):
        raise ArmError(
            "InvalidDeploymentMode",
            "The deployment mode 'Complete' is for deployments to a resource group alone: "
            "nested deployments and those at subscription scope must be 'Incremental'.",
        )
    if not nested and place.group is None and not place.location:
        raise ArmError(
            "LocationRequired", "The location property is required for this deployment."
        )


def _is_open(entry: Any) -> bool:  # noqa: ANN401 — as it came
    """Whether a parameter's value is known only when the deployment runs."""
    return not is_known(entry) or (isinstance(entry, dict) and "reference" in entry)


def _object(value: Any, node: Node) -> dict[str, Any]:  # noqa: ANN401 — as it came
    if not isinstance(value, dict | None):
        raise TemplateError(f"The parameters of '{node.id.full_name}' must be an object")
    return value or {}


def _check_version(node: Node, body: dict[str, Any]) -> None:
    place = body.get("location")
    try:
        check_version(node.id.type, node.api_version, place if isinstance(place, str) else None)
    except ArmError as error:
        if error.code != "InvalidApiVersionParameter":
            raise
        raise TemplateError(
            f"The template resource '{node.id.full_name}' is invalid. 'ApiVersion' property is "
            f"invalid: {error.message}"
        ) from error


def _known_body(node: Node) -> dict[str, Any]:
    scope = node.scope
    raw = {key: node.raw[key] for key in BODY if key in node.raw}
    if node.is_deployment and isinstance(raw.get("properties"), dict):
        template = raw["properties"].get("template")
        rest = {k: v for k, v in raw["properties"].items() if k != "template"}
        body = resolve_known({**raw, "properties": rest}, scope)
        if template is not None:
            body["properties"]["template"] = template
        return body
    return resolve_known(raw, scope)


def mode_of(properties: dict[str, Any]) -> str:
    """The mode of a deployment as the service spells it."""
    mode = str(properties.get("mode") or "Incremental")
    return "Complete" if mode.lower() == "complete" else "Incremental"


def deployment_id(subscription: str, group: str | None, name: str) -> ResourceId:
    """The id of a deployment at a scope."""
    return ResourceId(subscription, group).under(DEPLOYMENT_TYPE, name)
