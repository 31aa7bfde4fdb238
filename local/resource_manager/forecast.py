"""What a deployment would do, without doing it.

The template is evaluated as it would be while deploying: `reference()` sees what would then be,
as far as that can be known. What cannot be known before (an address of something that is to be
created) stands as its expression. Only what was declared is compared, with what was declared
before: values that the cloud computed are no differences.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.diff import (
    MASK,
    PropertyChange,
    Unforeseen,
    delta,
    has_unforeseen,
    masked,
    plain,
)
from local.resource_manager.errors import ArmError
from local.resource_manager.evaluator import resolve
from local.resource_manager.graph import BODY, Graph, Node, build, is_outer
from local.resource_manager.ids import GROUP_TYPE, ResourceId
from local.resource_manager.links import linked
from local.resource_manager.parameters import is_secure
from local.resource_manager.providers.base import normal_location
from local.resource_manager.resources import is_listed, split
from local.resource_manager.template import read
from local.resource_manager.values import UNKNOWN, NeedsRuntimeError

if TYPE_CHECKING:
    from local.resource_manager.deployments import Deployments
    from local.resource_manager.resources import Resources
    from local.resource_manager.scope import Place, Scope
    from local.resource_manager.store import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One resource: what it is, what it would be. `kind` is as the service calls it."""

    id: ResourceId
    kind: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    delta: tuple[PropertyChange, ...] = ()
    deployment: ResourceId | None = None
    symbol: str | None = None
    api_version: str | None = None

    @property
    def is_certain(self) -> bool:
        """Whether nothing in it depends on what only the deployment will know."""
        return not has_unforeseen(self.after)


@dataclass(slots=True)
class Forecast:
    """All changes of one deployment, by key, and what could not be looked into."""

    changes: dict[str, Change] = field(default_factory=dict)
    diagnostics: list[dict[str, Any]] = field(default_factory=list)


class Forecaster:
    """Foresees one deployment; made anew for each. It is the running cloud to expressions."""

    def __init__(self, resources: Resources, deployments: Deployments) -> None:
        self._resources = resources
        self._deployments = deployments
        self._store = resources.cloud.store
        self._found = Forecast()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, dict[str, Any]] = {}
        self._targets: dict[str, ResourceId] = {}
        self._secrets: set[str] = set()

    def foresee(self, target: ResourceId, properties: dict[str, Any], place: Place) -> Forecast:
        """What deploying these properties, which were validated, would change.

        Raises:
            ArmError: an expression has no value.
        """
        self._run(target, properties, place, None)
        complete = str(properties.get("mode", "")).lower() == "complete"
        self._add_bystanders("Delete" if complete else "Ignore")
        return self._hushed()

    def reference(self, target: ResourceId, *, full: bool) -> Any:  # noqa: ANN401 — JSON
        """What the resource would be."""
        if target.key in self._outputs:
            seen: dict[str, Any] = {"properties": self._outputs[target.key]}
        elif target.key in self._found.changes:
            change = self._found.changes[target.key]
            if change.kind == "Create":
                raise NeedsRuntimeError("reference")
            seen = _with_unknown(change.after)
        else:
            record = self._store.get(target)
            if record is None:
                raise NeedsRuntimeError("reference")
            seen = record.shown()
        return seen if full else seen["properties"]

    def action(self, verb: str, target: ResourceId, argument: Any) -> Any:  # noqa: ANN401 — JSON
        """What a `list…` call answers now; it is not known of what does not exist yet."""
        record = self._store.get(target)
        if record is None:
            raise NeedsRuntimeError(verb)
        provider = self._resources.provider(target)
        return provider.act(verb, record, argument, self._resources.cloud)

    def _run(
        self,
        target: ResourceId,
        properties: dict[str, Any],
        place: Place,
        outer: Scope | None,
    ) -> None:
        place = replace(place, read_group=self._group)
        template = read(
            properties["template"], properties.get("parameters"), place, outer=outer
        )
        for name, declared in template.declared.items():
            if is_secure(declared):
                self._secrets |= set(_texts(template.values.get(name)))
        if place.group is not None:
            self._targets[place.id.key] = place.id
        try:
            graph = build(template)
        except NeedsRuntimeError:
            self._outputs[target.key] = {"outputs": UNKNOWN}
            self._found.diagnostics.append(_short_circuited(target))
            return
        for node in _ordered(graph):
            scope = node.scope.with_runtime(self)
            if node.is_deployment:
                self._nested(node, scope)
            elif not node.existing:
                self._found.changes[node.key] = self._change(node, scope, target)
        scope = graph.seen_from(template.scope).with_runtime(self)
        self._outputs[target.key] = {"outputs": template.foreseen_outputs(scope)}

    def _nested(self, node: Node, scope: Scope) -> None:
        raw = node.raw["properties"]
        template = raw.get("template")
        if template is None:
            link = foreseen(raw.get("templateLink"), scope)
            if has_unforeseen(link):
                self._outputs[node.key] = {"outputs": UNKNOWN}
                self._found.diagnostics.append(_short_circuited(node.id))
                return
            template = linked(self._store, link, node.api_version)
        given = foreseen(raw.get("parameters") or {}, scope)
        location = foreseen(node.raw.get("location"), scope)
        if location is None or isinstance(location, Unforeseen):
            location = scope.place.location
        parameters = {name: _as_known(entry) for name, entry in given.items()}
        self._run(
            node.id,
            {"template": template, "parameters": parameters},
            self._deployments.place(node.id, location, scope.place.principal),
            scope if is_outer(node.raw) else None,
        )

    def _change(self, node: Node, scope: Scope, deployment: ResourceId) -> Change:
        body = {key: foreseen(node.raw[key], scope) for key in BODY if key in node.raw}
        if isinstance(body.get("location"), str):
            body["location"] = normal_location(body["location"])
        record = self._store.get(node.id)
        hidden: dict[str, Any] = {}
        if node.id.type == GROUP_TYPE:
            body = {"location": body.get("location"), "tags": body.get("tags")}
            self._groups[node.id.name.lower()] = _with_unknown(body)
        else:
            body, hidden = split(self._resources.provider(node.id), body)
        symbol = next(
            (name for name, one in scope.symbols.items() if one.key == node.key), None
        )
        change = Change(
            id=record.id if record else node.id,
            kind="Create",
            after=_snapshot(node.id, body, node.api_version),
            deployment=deployment,
            symbol=symbol if symbol != node.key else None,
            api_version=node.api_version,
        )
        if record is None:
            return change
        wanted = dict(record.wanted)
        if isinstance(wanted.get("location"), str):
            wanted["location"] = normal_location(wanted["location"])
        changes = tuple(delta(_compared(wanted), _compared(body)))
        changes += tuple(_of_hidden(record.hidden, hidden))
        before = record.shown()
        before["properties"].pop("provisioningState", None)
        after = {**body, "properties": _kept(record, body)}
        return replace(
            change,
            kind="Modify" if changes else "NoChange",
            before={**before, "apiVersion": node.api_version},
            after=_snapshot(record.id, after, node.api_version),
            delta=changes,
        )

    def _add_bystanders(self, kind: str) -> None:
        """What lies in the groups that are deployed to, and is not in the template."""
        for group in self._targets.values():
            for record in self._store.below(group):
                top = record.id.parent is None and is_listed(record)
                if top and record.key not in self._found.changes:
                    self._found.changes[record.key] = Change(
                        id=record.id, kind=kind, before=record.shown()
                    )

    def _hushed(self) -> Forecast:
        """The forecast without values of secure parameters."""
        secrets = frozenset(one for one in self._secrets if one)

        def hush(change: Change) -> Change:
            return replace(
                change,
                before=masked(change.before, secrets),
                after=masked(change.after, secrets),
                delta=tuple(_masked_change(one, secrets) for one in change.delta),
            )

        changes = {key: hush(change) for key, change in self._found.changes.items()}
        return Forecast(changes=changes, diagnostics=self._found.diagnostics)

    def _group(self, name: str) -> dict[str, Any] | None:
        return self._groups.get(name.lower()) or self._resources.group(name)


def foreseen(value: Any, scope: Scope) -> Any:  # noqa: ANN401 — JSON
    """A value of a template as it would be, `Unforeseen` in the place of what is not known."""
    if isinstance(value, list):
        return [foreseen(item, scope) for item in value]
    if isinstance(value, dict) and not isinstance(value.get("copy"), list):
        made: dict[str, Any] = {}
        for key, item in value.items():
            name = foreseen(key, scope)
            made[name if isinstance(name, str) else key] = foreseen(item, scope)
        return made
    try:
        return _without_unknown(resolve(value, scope), value)
    except NeedsRuntimeError:
        return Unforeseen(value if isinstance(value, str) else "[copy]")


def result(forecast: Forecast, how: str) -> dict[str, Any]:
    """The answer of a deployment's what-if; `how` is its result format."""
    told = [_told(change, how) for change in forecast.changes.values()]
    properties: dict[str, Any] = {"changes": told, "potentialChanges": []}
    if forecast.diagnostics:
        properties["diagnostics"] = forecast.diagnostics
    return {"status": "Succeeded", "properties": properties}


def result_format(properties: dict[str, Any]) -> str:
    """What a what-if was asked to show.

    Raises:
        ArmError: none of the two formats.
    """
    settings = properties.get("whatIfSettings")
    wanted = settings.get("resultFormat") if isinstance(settings, dict) else None
    wanted = str(wanted or "FullResourcePayloads")
    for known in ("FullResourcePayloads", "ResourceIdOnly"):
        if wanted.lower() == known.lower():
            return known
    raise ArmError("InvalidRequestContent", f"The what-if result format '{wanted}' is unknown.")


def _told(change: Change, how: str) -> dict[str, Any]:
    said: dict[str, Any] = {"resourceId": str(change.id), "changeType": change.kind}
    if how == "ResourceIdOnly":
        if change.kind in ("Modify", "NoChange"):
            said["changeType"] = "Deploy"
        return said
    if change.deployment is not None:
        said["deploymentId"] = str(change.deployment)
    if change.symbol is not None:
        said["symbolicName"] = change.symbol
    said["before"], said["after"] = plain(change.before), plain(change.after)
    said["delta"] = [one.told() for one in change.delta]
    return said


def _ordered(graph: Graph) -> list[Node]:
    """The nodes, each behind those it waits for."""
    left, done = dict(graph.nodes), set[str]()
    ordered: list[Node] = []
    while left:
        ready = [node for node in left.values() if done.issuperset(node.after)]
        for node in ready:
            del left[node.key]
        done.update(node.key for node in ready)
        ordered += ready
    return ordered


def _snapshot(target: ResourceId, body: dict[str, Any], version: str) -> dict[str, Any]:
    said = {"id": str(target), "name": target.name, "type": target.type, **body}
    return {**said, "apiVersion": version}


def _compared(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key in BODY}


def _kept(record: Record, body: dict[str, Any]) -> dict[str, Any]:
    """The properties that it would have: those declared, and those computed before."""
    declared = record.wanted.get("properties") or {}
    computed = {k: v for k, v in record.properties.items() if k not in declared}
    return {**computed, **(body.get("properties") or {})}


def _of_hidden(before: dict[str, Any], after: dict[str, Any]) -> list[PropertyChange]:
    return [
        PropertyChange(path=path, kind="Modify", before=MASK, after=MASK)
        for path, value in after.items()
        if before.get(path) != value
    ]


def _masked_change(change: PropertyChange, secrets: frozenset[str]) -> PropertyChange:
    return replace(
        change,
        before=masked(change.before, secrets),
        after=masked(change.after, secrets),
        children=tuple(_masked_change(one, secrets) for one in change.children),
    )


def _short_circuited(target: ResourceId) -> dict[str, Any]:
    return {
        "level": "Warning",
        "code": "NestedDeploymentShortCircuited",
        "target": str(target),
        "message": f"The nested deployment '{target.name}' cannot be looked into: names of its "
        "resources depend on what only the deployment will know.",
    }


def _as_known(entry: Any) -> Any:  # noqa: ANN401 — JSON
    if isinstance(entry, dict) and "reference" not in entry and not has_unforeseen(entry):
        return entry
    return {"value": UNKNOWN}


def _with_unknown(value: Any) -> Any:  # noqa: ANN401 — JSON
    match value:
        case Unforeseen():
            return UNKNOWN
        case dict():
            return {key: _with_unknown(item) for key, item in value.items()}
        case list():
            return [_with_unknown(item) for item in value]
        case _:
            return value


def _without_unknown(value: Any, raw: Any) -> Any:  # noqa: ANN401 — JSON
    """UNKNOWN inside of a value (an object parameter) as its expression."""
    if value is UNKNOWN:
        return Unforeseen(raw if isinstance(raw, str) else "[copy]")
    if isinstance(value, dict):
        return {key: _without_unknown(item, raw) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_unknown(item, raw) for item in value]
    return value


def _texts(value: Any) -> list[str]:  # noqa: ANN401 — JSON
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case _:
            return []
