"""Names of things: resource ids taken apart, put together, and compared without case.

`/subscriptions/S/resourceGroups/G/providers/NS/type/name/type/name`, and behind one another for
what extends something else (a role assignment on a vault). Names keep the letters they were
given; `key` is what two spellings of one name have in common.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from local.resource_manager.errors import ArmError

GROUP_TYPE = "Microsoft.Resources/resourceGroups"
DEPLOYMENT_TYPE = "Microsoft.Resources/deployments"
STACK_TYPE = "Microsoft.Resources/deploymentStacks"
STACK_WHAT_IF_TYPE = "Microsoft.Resources/deploymentStacksWhatIfResults"
SUBSCRIPTION_TYPE = "Microsoft.Resources/subscriptions"
OF_NAMESPACES = ("register", "unregister", "resourcetypes", "providerpermissions")
"""What is asked of a namespace, in the place where a type would stand."""


@dataclass(frozen=True, slots=True)
class Part:
    """What follows one `/providers/`: a namespace and pairs of type and name."""

    namespace: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def type(self) -> str:
        """`Namespace/type/type`."""
        return "/".join((self.namespace, *(kind for kind, _ in self.pairs)))

    @property
    def name(self) -> str:
        """`name/name`."""
        return "/".join(name for _, name in self.pairs)

    @property
    def text(self) -> str:
        """`/providers/Namespace/type/name/…`."""
        return f"/providers/{self.namespace}" + "".join(f"/{t}/{n}" for t, n in self.pairs)


@dataclass(frozen=True, slots=True)
class ResourceId:
    """One thing in the subscription, or the subscription or a group itself."""

    subscription: str
    group: str | None = None
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        group = f"/resourceGroups/{self.group}" if self.group else ""
        return f"/subscriptions/{self.subscription}{group}" + "".join(
            p.text for p in self.parts
        )

    @property
    def key(self) -> str:
        """The same for all spellings."""
        return str(self).lower()

    @property
    def type(self) -> str:
        """The full type; of a group and of the subscription too."""
        if self.parts:
            return self.parts[-1].type
        return GROUP_TYPE if self.group else SUBSCRIPTION_TYPE

    @property
    def name(self) -> str:
        """The name without the parents' names."""
        if self.parts:
            return self.parts[-1].pairs[-1][1]
        return self.group or self.subscription

    @property
    def full_name(self) -> str:
        """The name as a template writes it: `parent/child`."""
        return self.parts[-1].name if self.parts else self.name

    @property
    def scope(self) -> ResourceId:
        """Where it stands: the subscription, a group, or the resource that it extends."""
        if not self.parts:
            return ResourceId(self.subscription)
        return replace(self, parts=self.parts[:-1])

    @property
    def parent(self) -> ResourceId | None:
        """The resource above a child resource; None for a top-level one."""
        if not self.parts or len(self.parts[-1].pairs) < 2:
            return None
        part = self.parts[-1]
        return replace(self, parts=(*self.parts[:-1], replace(part, pairs=part.pairs[:-1])))

    @property
    def root(self) -> ResourceId:
        """The top-level resource this one is, or is a child of."""
        if not self.parts:
            return self
        part = self.parts[-1]
        return replace(self, parts=(*self.parts[:-1], replace(part, pairs=part.pairs[:1])))

    def child(self, kind: str, name: str) -> ResourceId:
        """A child resource of this one."""
        part = self.parts[-1]
        grown = replace(part, pairs=(*part.pairs, (kind, name)))
        return replace(self, parts=(*self.parts[:-1], grown))

    def under(self, full_type: str, full_name: str) -> ResourceId:
        """What `full_type` and `full_name` ("a/b") name at this scope.

        Raises:
            ValueError: the type and the name do not have segments that go together.
        """
        namespace, *kinds = full_type.split("/")
        names = full_name.split("/")
        if not kinds or len(kinds) != len(names) or not all(names):
            raise ValueError(f"{full_type!r} and {full_name!r} do not go together")
        part = Part(namespace, tuple(zip(kinds, names, strict=True)))
        return replace(self, parts=(*self.parts, part))

    def within(self, other: ResourceId) -> bool:
        """Whether it is `other` or lies below it."""
        return self.key == other.key or self.key.startswith(other.key + "/")


@dataclass(frozen=True, slots=True)
class Path:
    """A request's path: the id it names, and the collection or action after it."""

    id: ResourceId
    rest: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The type whose API is called."""
        if self.id.parts:
            return self.id.type
        first, *others = self.rest or ("",)
        if not first:
            return self.id.type
        of_namespace = len(others) < 2 or others[1].lower() in OF_NAMESPACES
        if first.lower() == "providers" and not of_namespace:
            return "/".join(others[:2])
        return f"Microsoft.Resources/{first}"


def parse(text: str) -> ResourceId:
    """The id that `text` spells.

    Raises:
        ArmError: it spells none.
    """
    path = parse_path(text)
    if path.rest:
        raise ArmError("InvalidResourceId", f"'{text}' is not a resource id.")
    return path.id


def parse_path(text: str) -> Path:
    """An id and what stands behind it: one segment more is a collection or an action.

    Raises:
        ArmError: the path is none of the Resource Manager's.
    """
    segments = text.strip("/").split("/")
    if len(segments) < 2 or segments[0].lower() != "subscriptions" or "" in segments:
        raise ArmError("InvalidRequestUri", f"'{text}' names no resource.", status=404)
    found = ResourceId(segments[1])
    rest = segments[2:]
    if len(rest) >= 2 and rest[0].lower() == "resourcegroups":
        found, rest = replace(found, group=rest[1]), rest[2:]
    while len(rest) >= 2 and rest[0].lower() == "providers":
        namespace, rest = rest[1], rest[2:]
        pairs: list[tuple[str, str]] = []
        while len(rest) >= 2 and rest[0].lower() != "providers":
            pairs.append((rest[0], rest[1]))
            rest = rest[2:]
        if not pairs:
            return Path(found, ("providers", namespace, *rest))
        found = replace(found, parts=(*found.parts, Part(namespace, tuple(pairs))))
    return Path(found, tuple(rest))
