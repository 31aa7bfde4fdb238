"""What putting a stack would change, by the what-if results of deployment stacks.

A result is a resource of its own: made by PUT, filled by `POST …/whatIf`, gone when its retention
ends. Three calls at most, each of them repeatable, none of them waits.
Source: API version 2025-07-01, as the SDK's models have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

from spaces.ports import Difference, Foresight, StackState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KEPT = "P1D"
_WORDS = {
    "create": "create",
    "modify": "modify",
    "delete": "delete",
    "detach": "detach",
    "nochange": "no_change",
}


async def foreseen(
    results: Any,  # noqa: ANN401 — the SDK's operations
    name: str,
    body: dict[str, Any],
    scope: str,
    stack: str,
) -> Foresight:
    """Look at the result of that name; make and fill it where it is not there yet."""
    try:
        shown = (await results.get(name)).as_dict()
    except ResourceNotFoundError:
        asked = {
            **body,
            "properties": {
                **body["properties"],
                "deploymentStackResourceId": f"{scope}/deploymentStacks/{stack}",
                "retentionInterval": _KEPT,
            },
        }
        await results.begin_create_or_update(name, asked, polling=False)
        return Foresight(state=StackState.RUNNING)
    properties: Mapping[str, Any] = shown.get("properties") or {}
    word = str(properties.get("provisioningState") or "").lower()
    if properties.get("changes") is not None:
        return Foresight(state=StackState.SUCCEEDED, differences=_differences(properties))
    if word in {"failed", "canceled"} or properties.get("error"):
        error: Mapping[str, Any] = properties.get("error") or {}
        return Foresight(
            state=StackState.FAILED, code=error.get("code"), message=error.get("message")
        )
    if word == "succeeded":  # kept, and not compared yet
        await results.begin_what_if(name, polling=False)
    return Foresight(state=StackState.RUNNING)


def _differences(properties: Mapping[str, Any]) -> tuple[Difference, ...]:
    changes: Mapping[str, Any] = properties["changes"]
    return tuple(_difference(one) for one in changes.get("resourceChanges") or [])


def _difference(change: Mapping[str, Any]) -> Difference:
    told: Mapping[str, Any] = change.get("resourceConfigurationChanges") or {}
    word = str(change.get("changeType", ""))
    return Difference(
        resource=str(change.get("id", "")),
        change=_WORDS.get(word.lower(), word),
        paths=tuple(_leaves(told.get("delta") or [], "")),
    )


def _leaves(
    delta: Iterable[Mapping[str, Any]], below: str
) -> Iterator[tuple[str, object, object]]:
    """Each property that changes; what changes within an array has its index in its path."""
    for one in delta:
        path = f"{below}.{one.get('path', '')}" if below else str(one.get("path", ""))
        children = one.get("children")
        if children:
            yield from _leaves(children, path)
        else:
            yield path, one.get("before"), one.get("after")
