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
    r"\s*(?:substringof\('(?P<part>(?:[^']|'')*)',\s*(?P<of>name|resourceGroup)\)"
    r"|startswith\(tagName,\s*'(?P<start>(?:[^']|'')*)'\)"
    r"|(?P<key>resourceType|resourceGroup|location|name|tagName|tagValue)\s+(?P<op>eq|ne)\s+"
    r"'(?P<value>(?:[^']|'')*)')\s*",
    re.IGNORECASE,
)
type _Term = tuple[str, str, str]


def wanted(records: list[Record], expression: str | None) -> list[Record]:
    """The records that a `$filter` means; all without one. `and` binds more than `or`.

    Raises:
        ArmError: the filter is none that the service knows.
    """
    if not expression:
        return records
    choices = [
        _terms(text, expression)
        for text in re.split(r"\s+or\s+", expression.strip(), flags=re.IGNORECASE)
    ]
    return [record for record in records if any(_meets(record, one) for one in choices)]


def by_tag(expression: str | None) -> bool:
    """Whether a filter asks for tags: the service then leaves them out of its answer."""
    return expression is not None and "tagname" in expression.lower()


def _terms(text: str, whole: str) -> list[_Term]:
    terms: list[_Term] = []
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        found = _TERM.fullmatch(part)
        if found is None:
            raise ArmError("InvalidFilterInQueryString", f"Invalid $filter '{whole}'.")
        if found["part"] is not None:
            terms.append(
                (f"part {found['of'].lower()}", "eq", found["part"].replace("''", "'"))
            )
        elif found["start"] is not None:
            terms.append(("start", "eq", found["start"].replace("''", "'")))
        else:
            value = found["value"].replace("''", "'")
            terms.append((found["key"].lower(), found["op"].lower(), value))
    keys = [key for key, _, _ in terms]
    if "tagvalue" in keys and "tagname" not in keys:
        raise ArmError("InvalidFilterInQueryString", "A tagValue needs a tagName.")
    return terms


def _meets(record: Record, terms: list[_Term]) -> bool:
    tag = {key: value for key, _, value in terms if key in ("tagname", "tagvalue")}
    others = [term for term in terms if term[0] not in tag]
    return _has_tag(record, tag) and all(_fits(record, *one) for one in others)


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
    lowered = value.lower()
    if key == "part name":
        return lowered in record.id.name.lower()
    if key == "part resourcegroup":
        return lowered in (record.id.group or "").lower()
    if key == "start":
        tags = record.body.get("tags") or {}
        return any(name.lower().startswith(lowered) for name in tags)
    actual = {
        "resourcetype": record.id.type,
        "resourcegroup": record.id.group or "",
        "location": str(record.body.get("location") or ""),
        "name": record.id.name,
    }[key]
    return (actual.lower() == value.lower()) == (operator == "eq")
