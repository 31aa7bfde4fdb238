"""Functions of time. `utcNow` stands in parameter defaults only, as on the service."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import template_function
from local.resource_manager.values import text, whole

_SPAN = re.compile(
    r"(-)?P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?"
)
# .NET's custom formats that templates use, longest first.
_FORMATS = {
    "yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "dddd": "%A", "ddd": "%a",
    "dd": "%d", "HH": "%H", "hh": "%I", "mm": "%M", "ss": "%S", "tt": "%p",
}  # fmt: skip
_PATTERN = re.compile("|".join(sorted(_FORMATS, key=len, reverse=True)))
_STANDARD = {
    "d": "MM/dd/yyyy",
    "s": "yyyy-MM-ddTHH:mm:ss",
    "u": "yyyy-MM-dd HH:mm:ssZ",
}


@template_function("utcNow", 0, 1)
def _utc_now(how: str = "yyyyMMddTHHmmssZ") -> str:
    return _shown(datetime.now(UTC), how)


@template_function("dateTimeAdd", 2, 3)
def _date_time_add(base: str, span: str, how: str = "yyyy-MM-ddTHH:mm:ssZ") -> str:
    return _shown(_added(_read(base), text(span, "dateTimeAdd")), how)


@template_function("dateTimeToEpoch", 1)
def _date_time_to_epoch(value: str) -> int:
    return int(_read(value).timestamp())


@template_function("dateTimeFromEpoch", 1)
def _date_time_from_epoch(seconds: int) -> str:
    at = datetime.fromtimestamp(whole(seconds, "dateTimeFromEpoch"), UTC)
    return _shown(at, "yyyy-MM-ddTHH:mm:ssZ")


def _read(value: str) -> datetime:
    source = text(value, "dateTimeAdd")
    for how in ("%Y%m%dT%H%M%SZ", "%Y-%m-%d %H:%M:%SZ"):
        try:
            return datetime.strptime(source, how).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        at = datetime.fromisoformat(source)
    except ValueError as error:
        raise TemplateError(f"'{source}' is no date and time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _added(at: datetime, span: str) -> datetime:
    found = _SPAN.fullmatch(span)
    if found is None or span.rstrip("T")[-1:] in ("P", ""):
        raise TemplateError(f"'{span}' is no ISO 8601 duration")
    years, months, weeks, days, hours, minutes, seconds = (
        int(v or 0) for v in found.groups()[1:]
    )
    sign = -1 if found.group(1) else 1
    month = at.month - 1 + sign * (years * 12 + months)
    year, month = at.year + month // 12, month % 12 + 1
    if not 1 <= year <= 9999:
        raise TemplateError(f"'{span}' leads out of the calendar")
    day = min(at.day, _days_of(year, month))
    moved = at.replace(year=year, month=month, day=day)
    rest = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return moved + sign * rest


def _days_of(year: int, month: int) -> int:
    following = (
        datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) if year < 9999 else None
    )
    return 31 if following is None else (following - timedelta(days=1)).day


def _shown(at: datetime, how: str) -> str:
    custom = _STANDARD.get(how, how)
    return _PATTERN.sub(lambda found: at.strftime(_FORMATS[found.group(0)]), custom)
