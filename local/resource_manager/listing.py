"""Lists: the filters that clients send, and pages with a link to the next one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.store import Record

_PAGE = 1000
_TERM = re.compile(
    r"\s*(?:substringof\('(?P<part>(?:[^']|'')*)',\s*name\)"
    r"|(?P<key>resourceType|resourceGroup|location|name|tagName|tagValue)\s+(?P<op>eq|ne)\s+"
    r"'(?P<value>(?:[^']|'')*)')\s*",
    re.IGNORECASE,
)


def wanted(records: list[Record], expression: str | None) -> list[Record]:
    """The records that a `$filter` means; all without one.

    Raises:
        ArmError: the filter is none that the service knows.
    """
    if not expression:
        return records
    terms: list[tuple[str, str, str]] = []
    for text in re.split(r"\s+and\s+", expression.strip(), flags=re.IGNORECASE):
        found = _TERM.fullmatch(text)
        if found is None:
            raise ArmError("InvalidFilterInQueryString", f"Invalid $filter '{expression}'.")
        if found["part"] is not None:
            terms.append(("part", "eq", found["part"].replace("''", "'")))
        else:
            value = found["value"].replace("''", "'")
            terms.append((found["key"].lower(), found["op"].lower(), value))
    tag = {key: value for key, _, value in terms if key in ("tagname", "tagvalue")}
    if "tagvalue" in tag and "tagname" not in tag:
        raise ArmError("InvalidFilterInQueryString", "A tagValue needs a tagName.")
    others = [term for term in terms if term[0] not in tag]
    return [r for r in records if _has_tag(r, tag) and all(_fits(r, *one) for one in others)]


def in_state(records: list[Record], expression: str | None) -> list[Record]:
    """The deployments that `provisioningState eq '…'` means; all without it.

    Raises:
        ArmError: the filter is another one.
    """
    if not expression:
        return records
    found = re.fullmatch(r"\s*provisioningState\s+eq\s+'(\w+)'\s*", expression, re.IGNORECASE)
    if found is None:
        raise ArmError("InvalidFilterInQueryString", f"Invalid $filter '{expression}'.")
    return [one for one in records if one.state.lower() == found[1].lower()]


def page(call: Call, items: list[dict[str, Any]]) -> dict[str, Any]:
    """One page of a list: `$top` items from `$skiptoken` on, and the link to the next.

    Raises:
        ArmError: one of the two is no number.
    """
    try:
        size = min(int(call.query.get("$top", _PAGE)), _PAGE)
        first = int(call.query.get("$skiptoken", 0))
    except ValueError as error:
        raise ArmError("InvalidQueryParameter", "$top and $skiptoken are numbers.") from error
    if size < 1 or first < 0:
        raise ArmError("InvalidQueryParameter", "$top and $skiptoken are positive numbers.")
    answer: dict[str, Any] = {"value": items[first : first + size]}
    if first + size < len(items):
        answer["nextLink"] = str(call.request.url.update_query({"$skiptoken": first + size}))
    return answer


def _has_tag(record: Record, tag: dict[str, str]) -> bool:
    if not tag:
        return True
    tags = record.body.get("tags") or {}
    name = next((key for key in tags if key.lower() == tag["tagname"].lower()), None)
    return name is not None and tags[name] == tag.get("tagvalue", tags[name])


def _fits(record: Record, key: str, operator: str, value: str) -> bool:
    if key == "part":
        return value.lower() in record.id.name.lower()
    actual = {
        "resourcetype": record.id.type,
        "resourcegroup": record.id.group or "",
        "location": str(record.body.get("location") or ""),
        "name": record.id.name,
    }[key]
    return (actual.lower() == value.lower()) == (operator == "eq")
