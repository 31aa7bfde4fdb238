"""Functions of arrays and objects."""

from __future__ import annotations

import copy
import json
from typing import Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import template_function
from local.resource_manager.values import as_text, find_name, same, text, type_name, whole

_MAX_RANGE = 10_000  # documented


@template_function("array", 1)
def _array(value: Any) -> list[Any]:  # noqa: ANN401 — template values have no static type
    return value if isinstance(value, list) else [value]


@template_function("createArray", 0, None)
def _create_array(*values: Any) -> list[Any]:  # noqa: ANN401 — see above
    return list(values)


@template_function("createObject", 0, None)
def _create_object(*values: Any) -> dict[str, Any]:  # noqa: ANN401 — see above
    if len(values) % 2:
        raise TemplateError("createObject expects pairs of key and value")
    return {text(k, "createObject"): v for k, v in zip(values[::2], values[1::2], strict=True)}


@template_function("first", 1)
def _first(value: Any) -> Any:  # noqa: ANN401 — see above
    if isinstance(value, str):
        return value[:1]
    return _listed(value, "first")[0] if value else None


@template_function("last", 1)
def _last(value: Any) -> Any:  # noqa: ANN401 — see above
    if isinstance(value, str):
        return value[-1:]
    return _listed(value, "last")[-1] if value else None


@template_function("flatten", 1)
def _flatten(value: Any) -> list[Any]:  # noqa: ANN401 — see above
    return [item for part in _listed(value, "flatten") for item in _listed(part, "flatten")]


@template_function("range", 2)
def _range(start: int, count: int) -> list[int]:
    if not 0 <= whole(count, "range") <= _MAX_RANGE:
        raise TemplateError(f"range expects a count between 0 and {_MAX_RANGE}")
    return list(range(whole(start, "range"), start + count))


@template_function("skip", 2)
def _skip(value: Any, count: int) -> Any:  # noqa: ANN401 — see above
    return _sliceable(value, "skip")[max(0, whole(count, "skip")) :]


@template_function("take", 2)
def _take(value: Any, count: int) -> Any:  # noqa: ANN401 — see above
    return _sliceable(value, "take")[: max(0, whole(count, "take"))]


@template_function("union", 2, None)
def _union(*values: Any) -> Any:  # noqa: ANN401 — see above
    if all(isinstance(v, dict) for v in values):
        merged: dict[str, Any] = {}
        for value in values:
            merged = _merged(merged, value)
        return merged
    found: dict[str, Any] = {}
    for value in values:
        for item in _listed(value, "union"):
            found.setdefault(_mark(item), item)
    return list(found.values())


@template_function("intersection", 2, None)
def _intersection(first: Any, *others: Any) -> Any:  # noqa: ANN401 — see above
    if isinstance(first, dict):
        if not all(isinstance(o, dict) for o in others):
            raise TemplateError("intersection expects arrays, or objects, not both")
        return {k: v for k, v in first.items() if all(k in o and same(v, o[k]) for o in others)}
    lists = [{_mark(item) for item in _listed(o, "intersection")} for o in others]
    found = {_mark(item): item for item in reversed(_listed(first, "intersection"))}
    kept = {mark for mark in found if all(mark in one for one in lists)}
    ordered = dict.fromkeys(_mark(item) for item in first)
    return [found[mark] for mark in ordered if mark in kept]


@template_function("shallowMerge", 1)
def _shallow_merge(values: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in _listed(values, "shallowMerge"):
        if not isinstance(value, dict):
            raise TemplateError("shallowMerge expects an array of objects")
        merged |= value
    return merged


@template_function("items", 1)
def _items(value: dict[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(value, dict):
        raise TemplateError("items expects an object")
    return [{"key": key, "value": value[key]} for key in sorted(value, key=str.lower)]


@template_function("objectKeys", 1)
def _object_keys(value: dict[str, Any]) -> list[str]:
    return [item["key"] for item in _items(value)]


@template_function("tryGet", 2, None)
def _try_get(value: Any, *path: Any) -> Any:  # noqa: ANN401 — see above
    for step in path:
        if isinstance(value, dict):
            found = find_name(value, as_text(step))
            value = None if found is None else value[found]
        elif isinstance(value, list):
            value = value[step] if 0 <= whole(step, "tryGet") < len(value) else None
        else:
            return None
    return value


@template_function("tryIndexFromEnd", 2)
def _try_index_from_end(value: list[Any], index: int) -> Any:  # noqa: ANN401 — see above
    listed = _listed(value, "tryIndexFromEnd")
    return listed[-index] if 1 <= whole(index, "tryIndexFromEnd") <= len(listed) else None


@template_function("indexFromEnd", 2)
def _index_from_end(value: list[Any], index: int) -> Any:  # noqa: ANN401 — see above
    if not 1 <= whole(index, "indexFromEnd") <= len(_listed(value, "indexFromEnd")):
        raise TemplateError("indexFromEnd: the index lies outside of the array")
    return value[-index]


def _merged(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    grown = copy.deepcopy(a)
    for key, value in b.items():
        mine = grown.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            grown[key] = _merged(mine, value)
        else:
            grown[key] = copy.deepcopy(value)
    return grown


def _mark(value: Any) -> str:  # noqa: ANN401 — see above
    """The same text for values that `equals()` finds equal, and for them alone."""
    return f"{type_name(value)} {json.dumps(value, sort_keys=True)}"


def _listed(value: Any, name: str) -> list[Any]:  # noqa: ANN401 — see above
    if not isinstance(value, list):
        raise TemplateError(f"{name} expects an array")
    return value


def _sliceable(value: Any, name: str) -> Any:  # noqa: ANN401 — see above
    if not isinstance(value, str | list):
        raise TemplateError(f"{name} expects an array or a string")
    return value
