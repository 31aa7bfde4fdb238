"""What differs between two bodies, property by property, as what-if tells it.

No noise: the order of keys, the letters of ids and places, an empty object beside none are no
differences. Objects are entered, so that a path names the property; arrays are told as a whole,
with what happens to their items below: items with a name are held against the one of that name,
others by their place among those that did not stay equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.resource_manager.values import find_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "*******"
"""Stands for what must not be shown."""


@dataclass(frozen=True, slots=True)
class Unforeseen:
    """A value that only the deployment will know, by the expression that gives it."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertyChange:
    """One property: `kind` is Create, Delete, Modify, or Array with children."""

    path: str
    kind: str
    before: Any = None
    after: Any = None
    children: tuple[PropertyChange, ...] = ()

    def told(self, key: str = "propertyChangeType", *, capital: bool = True) -> dict[str, Any]:
        """The change as JSON; stacks spell its kind under another key and without a capital."""
        said: dict[str, Any] = {
            "path": self.path,
            key: self.kind if capital else self.kind.lower(),
            "before": plain(self.before),
            "after": plain(self.after),
        }
        if self.kind in ("Array", "Modify"):
            said["children"] = [one.told(key, capital=capital) for one in self.children] or None
        return said


def delta(before: Any, after: Any, path: str = "") -> Iterator[PropertyChange]:  # noqa: ANN401 — JSON
    """Every property that differs, in the order of `after`."""
    if same(before, after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        children = tuple(_of_items(before, after))
        yield PropertyChange(
            path=path, kind="Array", before=before, after=after, children=children
        )
    elif _nothing(before):
        yield PropertyChange(path=path, kind="Create", after=after)
    elif _nothing(after):
        yield PropertyChange(path=path, kind="Delete", before=before)
    else:
        yield PropertyChange(path=path, kind="Modify", before=before, after=after)


def same(before: Any, after: Any) -> bool:  # noqa: ANN401 — JSON
    """Whether nobody could tell one from the other."""
    return _canonical(before) == _canonical(after)


def plain(value: Any) -> Any:  # noqa: ANN401 — JSON
    """A value as it can be written: what is not foreseen as its expression."""
    match value:
        case Unforeseen(text=text):
            return text
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def has_unforeseen(value: Any) -> bool:  # noqa: ANN401 — JSON
    """Whether something in it is not known yet."""
    match value:
        case Unforeseen():
            return True
        case dict():
            return any(has_unforeseen(item) for item in value.values())
        case list():
            return any(has_unforeseen(item) for item in value)
        case _:
            return False


def masked(value: Any, secrets: frozenset[str]) -> Any:  # noqa: ANN401 — JSON
    """A value without the secrets in it."""
    match value:
        case str():
            return MASK if any(one in value for one in secrets) else value
        case dict():
            return {key: masked(item, secrets) for key, item in value.items()}
        case list():
            return [masked(item, secrets) for item in value]
        case _:
            return value


def _of_objects(
    before: dict[str, Any], after: dict[str, Any], path: str
) -> Iterator[PropertyChange]:
    met: set[str] = set()
    for key, item in after.items():
        old = find_name(before, key)
        if old is not None:
            met.add(old)
        yield from delta(before.get(old) if old else None, item, _below(path, key))
    for key, item in before.items():
        if key not in met and not _nothing(item):
            yield from delta(item, None, _below(path, key))


def _of_items(before: list[Any], after: list[Any]) -> Iterator[PropertyChange]:
    """What happens to items; paths are places in the array."""
    old, new = _moved_or_new(before, after)
    was = _partners(old, new)
    for at, item in new.items():
        if at in was:
            yield from _item(old[was[at]], item, str(at))
        else:
            yield PropertyChange(path=str(at), kind="Create", after=item)
    for at, item in old.items():
        if at not in was.values():
            yield PropertyChange(path=str(at), kind="Delete", before=item)


def _moved_or_new(before: list[Any], after: list[Any]) -> tuple[dict[int, Any], dict[int, Any]]:
    """The items of both sides that did not stay equal; all, where only their order changed."""
    old, new = dict(enumerate(before)), dict(enumerate(after))
    places: dict[str, list[int]] = {}
    for at, item in old.items():
        places.setdefault(_canonical(item), []).append(at)
    for at, item in enumerate(after):
        stayed = places.get(_canonical(item))
        if stayed:
            del old[stayed.pop(0)], new[at]
    if not old and not new:
        return dict(enumerate(before)), dict(enumerate(after))
    return old, new


def _partners(old: dict[int, Any], new: dict[int, Any]) -> dict[int, int]:
    """Which old item became which new one: by name, else by turn."""
    names = {item["name"]: at for at, item in old.items() if _is_named(item)}
    free = [at for at, item in old.items() if not _is_named(item)]
    found: dict[int, int] = {}
    for at, item in new.items():
        if _is_named(item):
            if item["name"] in names:
                found[at] = names[item["name"]]
        elif free:
            found[at] = free.pop(0)
    return found


def _item(before: Any, after: Any, path: str) -> Iterator[PropertyChange]:  # noqa: ANN401 — JSON
    if isinstance(before, dict) and isinstance(after, dict):
        children = tuple(_of_objects(before, after, ""))
        if children:
            yield PropertyChange(
                path=path, kind="Modify", before=before, after=after, children=children
            )
    else:
        yield from delta(before, after, path)


def _is_named(item: Any) -> bool:  # noqa: ANN401 — JSON
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def _nothing(value: Any) -> bool:  # noqa: ANN401 — JSON
    return value is None or value == {}


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _canonical(value: Any) -> str:  # noqa: ANN401 — JSON
    return json.dumps(_even(value), sort_keys=True, default=repr)


def _even(value: Any) -> Any:  # noqa: ANN401 — JSON
    match value:
        case dict():
            kept = {key.lower(): _even(item) for key, item in value.items()}
            return {key: item for key, item in kept.items() if not _nothing(item)} or None
        case list():
            return [_even(item) for item in value]
        case str() if value.lower().startswith("/subscriptions/"):
            return value.lower()
        case float() if value.is_integer():
            return int(value)
        case _:
            return value
