"""The resources of a template as a graph: loops unrolled, conditions decided, who waits for whom.

A resource waits for what its `dependsOn` names and for what it asks about with `reference()`
without an API version, as on the service. Parents are not waited for unless named: a child that
comes first fails there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.budget import spend
from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.evaluator import check, copies, evaluate, expressions_in, resolve
from local.resource_manager.expressions import Call, Literal, parse, walk
from local.resource_manager.ids import DEPLOYMENT_TYPE, GROUP_TYPE, ResourceId
from local.resource_manager.ids import parse as parse_id
from local.resource_manager.scope import Scope
from local.resource_manager.template import Template
from local.resource_manager.values import NeedsRuntimeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RESOURCES = 800  # documented
_KEYS = {
    "type", "apiversion", "name", "location", "tags", "properties", "sku", "kind", "identity",
    "zones", "plan", "dependson", "condition", "copy", "comments", "scope", "resources",
    "metadata", "resourcegroup", "subscriptionid", "existing", "extendedlocation", "managedby",
}  # fmt: skip
BODY = (
    "location",
    "tags",
    "properties",
    "sku",
    "kind",
    "identity",
    "zones",
    "plan",
    "managedBy",
)
_SUBSCRIPTION_SCOPE = ("microsoft.resources/", "microsoft.authorization/")
_GROUP_SCOPE = ("microsoft.resources/templatespecs",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One resource to be made; `after` are the keys of those that come first."""

    id: ResourceId
    api_version: str
    raw: Mapping[str, Any]
    scope: Scope
    after: tuple[str, ...] = ()
    existing: bool = False

    @property
    def key(self) -> str:
        """The id without case."""
        return self.id.key

    @property
    def is_deployment(self) -> bool:
        """Whether it is a nested deployment."""
        return self.id.type.lower() == DEPLOYMENT_TYPE.lower()


@dataclass(slots=True)
class Graph:
    """All resources of one template, in the order they are written."""

    nodes: dict[str, Node] = field(default_factory=dict)
    symbols: dict[str, ResourceId] = field(default_factory=dict)
    loops: dict[str, tuple[ResourceId, ...]] = field(default_factory=dict)

    def seen_from(self, scope: Scope) -> Scope:
        """A scope of the same template in which the resources have their names."""
        return replace(scope, symbols=self.symbols, loops_of_symbols=self.loops)


@dataclass(slots=True)
class _Draft:
    node: Node
    waits: list[Any]


@dataclass(slots=True)
class _Builder:
    template: Template
    symbolic: bool
    drafts: dict[str, _Draft] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    loops: dict[str, list[str]] = field(default_factory=dict)
    symbols: dict[str, list[str]] = field(default_factory=dict)
    looped_symbols: set[str] = field(default_factory=set)
    serial: dict[str, list[str]] = field(default_factory=dict)


def build(template: Template) -> Graph:
    """The graph of a template.

    Raises:
        TemplateError: a resource is not well formed, defined twice, or waits for itself.
        NeedsRuntimeError: a name depends on a parameter that is not known yet.
    """
    resources = template.body["resources"]
    builder = _Builder(template, symbolic=isinstance(resources, dict))
    if isinstance(resources, dict):
        for symbol, raw in resources.items():
            _add(builder, raw, symbol=symbol)
    else:
        for raw in resources:
            _add(builder, raw)
    if len(builder.drafts) > MAX_RESOURCES:
        raise TemplateError(f"The template has more than {MAX_RESOURCES} resources")
    return _connected(builder)


def references(raw: Any, scope: Scope) -> Iterator[ResourceId]:  # noqa: ANN401 — template value
    """Whom an implicit edge leads to: `reference(x)` without an API version."""
    for text in expressions_in(raw):
        for call in walk(parse(text)):
            match call:
                case Call(name=name, arguments=(target,)) if name.lower() == "reference":
                    try:
                        named = evaluate(target, scope)
                    except (NeedsRuntimeError, TemplateError):
                        continue  # in a branch that is not taken, or not to be known yet
                    found = _named(str(named), scope)
                    if found is not None:
                        yield found
                case Call(name=name, arguments=(Literal(value=str(symbol)), *_)) if (
                    name.lower() == "references"
                ):
                    yield from scope.loops_of_symbols.get(symbol, ())
                case _:
                    continue


def own_text(node_raw: Mapping[str, Any]) -> Any:  # noqa: ANN401 — template value
    """What of a resource stands in this template's scope: all but an inner-scoped template."""
    return {
        key: value for key, value in _without_template(node_raw).items() if key != "resources"
    }


def is_outer(raw: Mapping[str, Any]) -> bool:
    """Whether a nested template is evaluated in the scope around it, the default of the service."""
    properties = raw.get("properties")
    if isinstance(properties, dict) and properties.get("templateLink") is not None:
        return False  # what stands elsewhere sees nothing of this template
    options = (
        properties.get("expressionEvaluationOptions") if isinstance(properties, dict) else 0
    )
    return not isinstance(options, dict) or str(options.get("scope")).lower() != "inner"


def _without_template(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = str(raw.get("type", "")).lower() == DEPLOYMENT_TYPE.lower()
    properties = raw.get("properties")
    if not nested or not isinstance(properties, dict) or is_outer(raw):
        return raw
    return {**raw, "properties": {k: v for k, v in properties.items() if k != "template"}}


def _add(
    builder: _Builder,
    raw: Any,  # noqa: ANN401 — as it came
    *,
    symbol: str | None = None,
    parent: Node | None = None,
    outer: Scope | None = None,
) -> None:
    scope = outer or builder.template.scope
    _check_shape(raw)
    check(own_text(raw), scope)
    loop = raw.get("copy")
    if loop is None:
        _add_one(builder, raw, scope, symbol=symbol, parent=parent)
        return
    if parent is not None or not isinstance(loop, dict):
        raise TemplateError(
            "A copy loop needs name and count, and stands on top-level resources"
        )
    if symbol is not None:
        builder.looped_symbols.add(symbol)
        builder.symbols.setdefault(symbol, [])
    keys: list[str] = []
    for turn in copies(loop, scope):
        keys += _add_one(builder, raw, turn, symbol=symbol, parent=None)
    builder.loops[str(loop["name"]).lower()] = keys
    if str(loop.get("mode", "parallel")).lower() == "serial":
        size = loop.get("batchSize", 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise TemplateError("The batchSize of a copy loop is a number of at least 1")
        for at, key in enumerate(keys):
            start = at // size * size
            builder.serial[key] = keys[max(0, start - size) : start]


def _add_one(
    builder: _Builder,
    raw: Mapping[str, Any],
    scope: Scope,
    *,
    symbol: str | None,
    parent: Node | None,
) -> list[str]:
    spend(50)
    at_once = scope.refusing("reference", "references", "list*")
    node = _node(raw, scope, at_once, parent)
    wanted = resolve(raw.get("condition", True), at_once)
    if not isinstance(wanted, bool):
        raise TemplateError(f"The condition of '{node.id.full_name}' must be a boolean")
    if symbol is not None:
        builder.symbols.setdefault(symbol, []).append(node.key)
    if not wanted:
        builder.skipped.add(node.key)
        return []
    if node.key in builder.drafts:
        raise TemplateError(f"The resource '{node.id}' is defined multiple times in a template")
    waits = resolve(raw.get("dependsOn") or [], at_once)
    if not isinstance(waits, list):
        raise TemplateError(f"The dependsOn of '{node.id.full_name}' must be an array")
    builder.drafts[node.key] = _Draft(node, waits)
    children = raw.get("resources") or []
    if not isinstance(children, list):
        raise TemplateError(f"The resources of '{node.id.full_name}' must be an array")
    for child in children:
        _add(builder, child, parent=node, outer=scope)
    return [node.key]


def _check_shape(raw: Any) -> None:  # noqa: ANN401 — as it came
    if not isinstance(raw, dict):
        raise TemplateError("A resource of the template must be an object")
    for key in ("type", "apiVersion", "name"):
        if not isinstance(raw.get(key), str) or not raw[key]:
            raise TemplateError(f"A resource of the template has no '{key}'")
    strange = [key for key in raw if key.lower() not in _KEYS]
    if strange:
        raise TemplateError(
            f"Could not find member '{strange[0]}' on object of type 'TemplateResource'"
        )


def _node(raw: Mapping[str, Any], scope: Scope, at_once: Scope, parent: Node | None) -> Node:
    kind, name = resolve(raw["type"], at_once), resolve(raw["name"], at_once)
    if not isinstance(kind, str) or not isinstance(name, str) or not name:
        raise TemplateError(f"Type and name of the resource '{name}' must be strings")
    if parent is not None and not kind.lower().startswith("microsoft."):
        kind, name = f"{parent.id.type}/{kind}", f"{parent.id.full_name}/{name}"
    try:
        found = _id(raw, kind, name, at_once)
    except ValueError as error:
        raise TemplateError(
            f"The template resource '{name}' of type '{kind}' has incorrect segment lengths. "
            f"A nested resource type must have identical number of segments as its resource name"
        ) from error
    version = resolve(raw["apiVersion"], at_once)
    return Node(
        id=found,
        api_version=str(version),
        raw=raw,
        scope=scope,
        existing=raw.get("existing") is True,
    )


def _id(raw: Mapping[str, Any], kind: str, name: str, scope: Scope) -> ResourceId:
    base = scope.target
    lowered = kind.lower()
    if lowered == GROUP_TYPE.lower():
        if base.group is not None or "/" in name:
            raise TemplateError(f"A resource group '{name}' is made at subscription scope only")
        return ResourceId(base.subscription, name)
    if lowered == DEPLOYMENT_TYPE.lower():
        other = resolve(raw.get("subscriptionId", base.subscription), scope)
        if str(other).lower() != base.subscription.lower():
            raise TemplateError(f"The subscription '{other}' is not the deployment's own")
        group = resolve(raw.get("resourceGroup", base.group), scope)
        return ResourceId(base.subscription, group).under(kind, name)
    if "scope" in raw:
        base = _scope_of(resolve(raw["scope"], scope), scope.target)
    elif "/providers/" in lowered:  # the older spelling of an extension: type and name in one
        return _old_extension(base, kind, name)
    elsewhere = not lowered.startswith(_SUBSCRIPTION_SCOPE) or lowered.startswith(_GROUP_SCOPE)
    if base.group is None and elsewhere:
        raise TemplateError(
            f"The resource '{name}' of type '{kind}' cannot be deployed at subscription scope"
        )
    return base.under(kind, name)


def _scope_of(text: Any, place: ResourceId) -> ResourceId:  # noqa: ANN401 — template value
    if not isinstance(text, str) or not text:
        raise TemplateError("The scope of a resource must be a resource id")
    if text.startswith("/"):
        return parse_id(text)
    namespace, *rest = text.split("/")
    if not rest or len(rest) % 2:
        raise TemplateError(f"The scope '{text}' is no resource id")
    return place.under("/".join((namespace, *rest[::2])), "/".join(rest[1::2]))


def _old_extension(base: ResourceId, kind: str, name: str) -> ResourceId:
    owner, _, extension = kind.partition("/providers/")
    names = name.split("/")
    depth = owner.count("/")
    namespace, _, last = extension.partition("/")
    own = names[depth:]
    if len(own) != 2 or own[0].lower() != namespace.lower():
        raise ValueError(f"{kind!r} and {name!r} do not go together")
    return base.under(owner, "/".join(names[:depth])).under(f"{namespace}/{last}", own[1])


def _connected(builder: _Builder) -> Graph:
    ids = {
        symbol: builder.drafts[keys[0]].node.id
        for symbol, keys in builder.symbols.items()
        if len(keys) == 1 and keys[0] in builder.drafts
    }
    if not builder.symbolic:
        ids = {key: draft.node.id for key, draft in builder.drafts.items()}
    loops = {
        symbol: tuple(
            builder.drafts[key].node.id
            for key in builder.symbols[symbol]
            if key in builder.drafts
        )
        for symbol in builder.looped_symbols
    }
    graph = Graph(symbols=ids, loops=loops)
    for key, draft in builder.drafts.items():
        scope = replace(draft.node.scope, symbols=ids, loops_of_symbols=loops)
        after: list[str] = list(builder.serial.get(key, ()))
        for wait in draft.waits:
            after += _awaited(builder, wait, draft.node)
        after += [
            found.key
            for found in references(own_text(draft.node.raw), scope)
            if found.key in builder.drafts and found.key != key
        ]
        unique = tuple(dict.fromkeys(after))
        graph.nodes[key] = replace(draft.node, scope=scope, after=unique)
    _refuse_circles(graph)
    return graph


def _awaited(builder: _Builder, wait: Any, node: Node) -> list[str]:  # noqa: ANN401 — template value
    if not isinstance(wait, str):
        raise TemplateError(f"The dependsOn of '{node.id.full_name}' must hold strings")
    if builder.symbolic and wait in builder.symbols:
        return [key for key in builder.symbols[wait] if key in builder.drafts]
    lowered = wait.lower()
    if lowered in builder.loops:
        return builder.loops[lowered]
    if wait.startswith("/"):
        wanted = {parse_id(wait).key}
    else:
        everything = [d.node.id for d in builder.drafts.values()]
        wanted = {
            i.key
            for i in everything
            if lowered in (i.full_name.lower(), f"{i.type}/{i.full_name}".lower())
        }
        wanted |= {key for key in builder.skipped if key.endswith("/" + lowered.split("/")[-1])}
    found = [key for key in wanted if key in builder.drafts]
    if not found and not wanted & builder.skipped:
        raise TemplateError(f"The resource '{wait}' is not defined in the template")
    return found


def _named(name: str, scope: Scope) -> ResourceId | None:
    if name in scope.symbols:
        return scope.symbols[name]
    if name.startswith("/"):
        try:
            return parse_id(name)
        except ArmError:
            return None
    named = [i for i in scope.symbols.values() if i.full_name.lower() == name.lower()]
    return named[0] if len(named) == 1 else None


def _refuse_circles(graph: Graph) -> None:
    left = {key: set(node.after) for key, node in graph.nodes.items()}
    while ready := [key for key, after in left.items() if not after]:
        for key in ready:
            del left[key]
        for after in left.values():
            after.difference_update(ready)
    if left:
        names = ", ".join(f"'{graph.nodes[key].id}'" for key in sorted(left))
        raise TemplateError(f"Circular dependency detected on resource: {names}")
