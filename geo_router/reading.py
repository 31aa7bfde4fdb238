"""Check a request completely, or say everything that is wrong with it.

What is not understood is refused, never ignored and never replaced by a default: an ignored
field might have been the one that the law turns on. The canonical form (codes resolved, defaults
filled in, lists sorted, fields that are not given left out) can be read again and has one hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from typing import TYPE_CHECKING, cast

from geo_router.model import Refusal, Request
from spaces.errors import FieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geo_router.tables import Tables

MOST_SUBJECTS = 32
MOST_ERRORS = 50
LONGEST_ECHO = 64
SLOWEST_MS = 5000

FIELDS = (
    "country",
    "subdivision",
    "sector",
    "coordinates",
    "data_subject_countries",
    "billing_country",
    "ip_country",
    "assertions",
    "withdrawn",
    "certifications",
    "pin",
    "exclude",
    "prefer",
    "strict_residency",
    "allow_fallback",
    "accept_superseded",
    "measured_rtt",
    "as_of",
    "data_kinds",
)
_KNOWN = frozenset(FIELDS)
_SUBDIVISION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


# Made once: `json.dumps` makes an encoder for each call that is not by default.
_canonical_text = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False
).encode


class BadRequestError(ValueError):
    """The request is wrong: the kind of refusal and every wrong field."""

    def __init__(self, refusal: Refusal, errors: tuple[FieldError, ...]) -> None:
        super().__init__(f"{refusal}: {len(errors)} wrong")
        self.refusal = refusal
        self.errors = errors


def read(tables: Tables, raw: object) -> tuple[Request, str | None]:
    """The checked request and its `as_of` (None where not given), or `BadRequestError`."""
    if not isinstance(raw, dict):
        wrong = FieldError(pointer="", code="type", message="the request must be a JSON object")
        raise BadRequestError(Refusal.INVALID_INPUT, (wrong,))
    return _Reader(tables, cast("dict[object, object]", raw)).read()


def canonical(tables: Tables, request: Request, as_of: str | None) -> dict[str, object]:
    """The request as it is stored and hashed; `as_of` only where it is not the day itself."""
    clusters = tables.clusters
    form: dict[str, object] = {
        "country": request.country,
        "sector": request.sector,
        "data_subject_countries": list(request.subjects),
        "assertions": sorted(tables.names(request.asserted)),
        "withdrawn": sorted(tables.names(request.withdrawn)),
        "certifications": list(request.certifications),
        "exclude": sorted(c.id for at, c in enumerate(clusters) if request.exclude >> at & 1),
        "prefer": "latency" if request.by_latency else "residency",
        "strict_residency": request.strict,
        "allow_fallback": request.may_fall_back,
        "accept_superseded": request.superseded_counts,
        "data_kinds": list(request.data_kinds),
    }
    given: dict[str, object | None] = {
        "subdivision": request.subdivision,
        "coordinates": request.coordinates and list(request.coordinates),
        "billing_country": request.billing,
        "ip_country": request.network,
        "pin": None if request.pin is None else clusters[request.pin].id,
        "measured_rtt": {clusters[at].id: list(ms) for at, ms in request.measured} or None,
        "as_of": as_of,
    }
    return form | {name: value for name, value in given.items() if value is not None}


def request_hash(form: Mapping[str, object]) -> str:
    """SHA-256 of a canonical request: sorted keys, no blanks, UTF-8."""
    return f"sha256:{hashlib.sha256(_canonical_text(form).encode()).hexdigest()}"


def read_date(value: object) -> str | None:
    """A calendar date as `YYYY-MM-DD`, or None where it is not one."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return None


def echo(value: object) -> str:
    """A value for a message: printable ASCII, at most 64 characters."""
    if isinstance(value, str):
        text = value if len(value) <= LONGEST_ECHO else value[:LONGEST_ECHO] + "…"
    elif isinstance(value, (bool, int, float)) or value is None:
        # A number of a million digits is not worth printing, nor is Python willing to.
        huge = isinstance(value, int) and abs(value) >= 10**18
        return "a huge number" if huge else json.dumps(value)
    else:
        return "an object" if isinstance(value, dict) else "a list or another type"
    shown = json.dumps(text)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e")
    return f"'{shown[:LONGEST_ECHO]}'"


class _Reader:
    """One request being read; collects every error before it gives up."""

    def __init__(self, tables: Tables, raw: dict[object, object]) -> None:
        self.tables = tables
        self.raw = raw
        self.invalid: list[FieldError] = []
        self.unknown: list[FieldError] = []

    def read(self) -> tuple[Request, str | None]:
        raw = self.raw
        self._fields_are_known()
        country = self._country("country", required=True)
        sector = self._one_of("sector", self.tables.sectors, "general")
        if len(raw) == 1 + ("sector" in raw) and not self.invalid and not self.unknown:
            return Request(country=country or "", sector=sector), None
        request = Request(
            country=country or "",
            subdivision=self._subdivision(country),
            sector=sector,
            coordinates=self._coordinates(),
            subjects=self._countries("data_subject_countries"),
            billing=self._country("billing_country"),
            network=self._country("ip_country"),
            asserted=self._conditions("assertions"),
            withdrawn=self._conditions("withdrawn"),
            certifications=self._certifications(),
            pin=self._pin(),
            exclude=self._exclude(),
            by_latency=self._one_of("prefer", ("residency", "latency"), "residency")
            == "latency",
            strict=self._flag("strict_residency"),
            may_fall_back=self._flag("allow_fallback"),
            superseded_counts=self._flag("accept_superseded"),
            measured=self._measured(),
            data_kinds=self._kinds(),
        )
        as_of = self._as_of()
        if self.invalid or self.unknown:
            # Codes that are no countries are looked at only where the rest can be read.
            kind = Refusal.INVALID_INPUT if self.invalid else Refusal.UNKNOWN_COUNTRY
            raise BadRequestError(kind, _limited(self.invalid + self.unknown))
        return request, as_of

    def _wrong(self, pointer: str, code: str, message: str) -> None:
        self.invalid.append(FieldError(pointer=pointer, code=code, message=message))

    def _fields_are_known(self) -> None:
        if self.raw.keys() <= _KNOWN:
            return
        for name in self.raw:
            if name not in _KNOWN:
                self._wrong(
                    f"/{_pointer(name)}", "unknown-field", f"there is no field {echo(name)}"
                )

    def _country(self, field: str, *, required: bool = False) -> str | None:
        if field not in self.raw:
            if required:
                self._wrong(f"/{field}", "required", "a two-letter country code is needed")
            return None
        return self._code(f"/{field}", self.raw[field])

    def _code(self, pointer: str, value: object) -> str | None:
        tables = self.tables
        if not isinstance(value, str):
            self._wrong(
                pointer, "type", f"a two-letter country code is needed, not {echo(value)}"
            )
            return None
        if value in tables.countries:
            return value
        code = _plain(value)
        code = tables.aliases.get(code, code)
        if code in tables.countries:
            return code
        self.unknown.append(
            FieldError(
                pointer=pointer,
                code="unknown-country",
                message=f"{echo(value)} is no ISO 3166-1 alpha-2 code",
            )
        )
        return None

    def _countries(self, field: str) -> tuple[str, ...]:
        values = self._list(field)
        if len(values) > MOST_SUBJECTS:
            self._wrong(f"/{field}", "too-many", f"at most {MOST_SUBJECTS} countries")
            return ()
        codes = [self._code(f"/{field}/{at}", value) for at, value in enumerate(values)]
        return tuple(sorted({code for code in codes if code is not None}))

    def _subdivision(self, country: str | None) -> str | None:
        if "subdivision" not in self.raw:
            return None
        value = self.raw["subdivision"]
        code = _plain(value) if isinstance(value, str) else ""
        if not _SUBDIVISION.fullmatch(code):
            self._wrong(
                "/subdivision", "format", f"an ISO 3166-2 code is needed, not {echo(value)}"
            )
            return None
        declared = self.raw.get("country")
        of = country or (_plain(declared) if isinstance(declared, str) else None)
        if of is not None and not code.startswith(f"{of}-"):
            self._wrong(
                "/subdivision", "other-country", f"{echo(code)} is no subdivision of {echo(of)}"
            )
        return code

    def _one_of(self, field: str, allowed: tuple[str, ...], default: str) -> str:
        if field not in self.raw:
            return default
        value = self.raw[field]
        if isinstance(value, str) and value in allowed:
            return value
        self._wrong(
            f"/{field}", "not-in-list", f"{echo(value)} is none of {', '.join(allowed)}"
        )
        return default

    def _flag(self, field: str) -> bool:
        value = self.raw.get(field, False)
        if isinstance(value, bool):
            return value
        self._wrong(f"/{field}", "type", f"true or false is needed, not {echo(value)}")
        return False

    def _list(self, field: str) -> list[object]:
        value = self.raw.get(field, ())
        if isinstance(value, (list, tuple)):
            return list(cast("list[object]", value))
        self._wrong(f"/{field}", "type", f"a list is needed, not {echo(value)}")
        return []

    def _numbers(
        self, field: str, number_of: Callable[[str], int | None], thing: str
    ) -> set[int]:
        """The numbers of the named things of a list."""
        found: set[int] = set()
        for at, value in enumerate(self._list(field)):
            number = number_of(value) if isinstance(value, str) else None
            if number is None:
                self._wrong(
                    f"/{field}/{at}", "not-in-list", f"there is no {thing} {echo(value)}"
                )
            else:
                found.add(number)
        return found

    def _conditions(self, field: str) -> int:
        return _mask(self._numbers(field, self.tables.condition_numbers.get, "condition"))

    def _exclude(self) -> int:
        return _mask(self._numbers("exclude", self._cluster, "cluster"))

    def _cluster(self, name: str) -> int | None:
        return self.tables.cluster_numbers.get(name.strip().lower())

    def _pin(self) -> int | None:
        if "pin" not in self.raw:
            return None
        value = self.raw["pin"]
        number = self._cluster(value) if isinstance(value, str) else None
        if number is None:
            self._wrong("/pin", "not-in-list", f"there is no cluster {echo(value)}")
        return number

    def _certifications(self) -> tuple[str, ...]:
        return self._names("certifications", self.tables.offerings, "certification")

    def _kinds(self) -> tuple[str, ...]:
        return self._names("data_kinds", self.tables.data_kinds, "kind of data")

    def _names(self, field: str, known: Mapping[str, object], thing: str) -> tuple[str, ...]:
        named: set[str] = set()
        for at, value in enumerate(self._list(field)):
            if isinstance(value, str) and value in known:
                named.add(value)
            else:
                self._wrong(
                    f"/{field}/{at}", "not-in-list", f"there is no {thing} {echo(value)}"
                )
        return tuple(sorted(named))

    def _coordinates(self) -> tuple[float, float] | None:
        if "coordinates" not in self.raw:
            return None
        pair = self._list("coordinates")
        if not isinstance(self.raw["coordinates"], (list, tuple)):
            return None
        if len(pair) != 2:
            self._wrong("/coordinates", "length", "two numbers are needed: latitude, longitude")
            return None
        lat = self._number("/coordinates/0", pair[0], -90, 90)
        lon = self._number("/coordinates/1", pair[1], -180, 180)
        return None if lat is None or lon is None else (lat, lon)

    def _number(self, pointer: str, value: object, least: int, most: int) -> float | None:
        """A number within bounds; NaN is within none."""
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and least <= cast("float", value) <= most:
            return float(cast("float", value)) + 0.0  # -0.0 and 0.0 are one place and one hash
        self._wrong(
            pointer, "range", f"a number from {least} to {most} is needed, not {echo(value)}"
        )
        return None

    def _measured(self) -> tuple[tuple[int, tuple[float, ...]], ...]:
        if "measured_rtt" not in self.raw:
            return ()
        given = self.raw["measured_rtt"]
        if not isinstance(given, dict):
            self._wrong("/measured_rtt", "type", f"an object is needed, not {echo(given)}")
            return ()
        measured: dict[int, tuple[float, ...]] = {}
        for name, samples in cast("dict[object, object]", given).items():
            pointer = f"/measured_rtt/{_pointer(name)}"
            number = self._cluster(name) if isinstance(name, str) else None
            if number is None:
                self._wrong(pointer, "not-in-list", f"there is no cluster {echo(name)}")
            elif number in measured:
                self._wrong(
                    pointer, "duplicate", "this cluster is there under another name too"
                )
            else:
                measured[number] = self._samples(pointer, samples)
        return tuple(sorted(measured.items()))

    def _samples(self, pointer: str, samples: object) -> tuple[float, ...]:
        if not isinstance(samples, (list, tuple)):
            self._wrong(
                pointer, "type", f"a list of milliseconds is needed, not {echo(samples)}"
            )
            return ()
        taken: list[float] = []
        for at, sample in enumerate(cast("list[object]", samples)):
            is_number = isinstance(sample, (int, float)) and not isinstance(sample, bool)
            if is_number and 0 < cast("float", sample) < SLOWEST_MS:
                taken.append(float(cast("float", sample)))
            else:
                self._wrong(
                    f"{pointer}/{at}",
                    "range",
                    f"milliseconds over 0 and under {SLOWEST_MS} are needed, not {echo(sample)}",
                )
        return tuple(sorted(taken))

    def _as_of(self) -> str | None:
        if "as_of" not in self.raw:
            return None
        value = self.raw["as_of"]
        day = read_date(value)
        if day is None:
            self._wrong(
                "/as_of", "format", f"a date as YYYY-MM-DD is needed, not {echo(value)}"
            )
        return day


def _plain(code: str) -> str:
    """Trimmed and in capitals where it is ASCII; other letters are left to be unknown."""
    trimmed = code.strip()
    return trimmed.upper() if trimmed.isascii() else trimmed


def _mask(numbers: set[int]) -> int:
    return sum(1 << number for number in numbers)


def _pointer(name: object) -> str:
    """A member's name within a JSON pointer, shortened."""
    shown = name if isinstance(name, str) else str(name)
    plain = shown[:LONGEST_ECHO].encode("ascii", "backslashreplace").decode()
    return plain.replace("~", "~0").replace("/", "~1")


def _limited(errors: list[FieldError]) -> tuple[FieldError, ...]:
    if len(errors) <= MOST_ERRORS:
        return tuple(errors)
    more = len(errors) - MOST_ERRORS
    last = FieldError(pointer="", code="too-many-errors", message=f"and {more} more")
    return (*errors[:MOST_ERRORS], last)
