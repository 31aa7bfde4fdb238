"""The country of a network address, by a database file that the operator supplies.

None is shipped: such files age within weeks and have licences of their own. The file is named by
the setting KPAX_IP_DATABASE and is in MaxMind's format; the library that reads it is the extra
`ip`. An address becomes a country here and is dropped: nothing stores or logs it. It never moves a
space (`decide.py` says what it can do).
"""

from __future__ import annotations

import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any, cast

from geo_router.model import NO_EVIDENCE, Evidence

if TYPE_CHECKING:
    from pathlib import Path

    from spaces.callers import Address

log = logging.getLogger("kpax.geo_router")


def look_up(database: Path | None, address: Address | None, *, outranks: bool) -> Evidence:
    """The evidence of an address; without a database or an address there is none."""
    if database is None or address is None:
        return NO_EVIDENCE
    reader = _reader(database)
    if reader is None:
        return Evidence(source="unavailable")
    try:
        found: object = reader.get(str(address))
    except ValueError:
        found = None  # an address of version 6 in a file of version 4
    except Exception as error:  # noqa: BLE001 - a damaged file makes the library raise anything
        _complain(database, error)
        return Evidence(source="unavailable")
    return Evidence(country=_country(found), source="address", outranks=outranks)


@functools.lru_cache(maxsize=4)
def _reader(database: Path) -> Any:  # noqa: ANN401 - the library is optional
    """An open database; None where there is none to be read, which is logged once."""
    try:
        return importlib.import_module("maxminddb").open_database(str(database))
    except Exception as error:  # noqa: BLE001 - a missing library, a missing or damaged file
        _complain(database, error)
        return None


def _complain(database: Path, error: Exception) -> None:
    log.error(
        "ip_database.unreadable",
        extra={
            "file": str(database),
            "reason": f"{type(error).__name__}: {error}",
            "see": "docs/running.md#ip_database.unreadable",
        },
    )


def _country(found: object) -> str | None:
    """The code in a record: as MaxMind writes it, or as a plain field of other vendors."""
    if not isinstance(found, dict):
        return None
    record = cast("dict[str, object]", found)
    country = record.get("country")
    if isinstance(country, dict):
        country = cast("dict[str, object]", country).get("iso_code")
    for value in (record.get("country_code"), country):
        if isinstance(value, str):
            return value.strip().upper()
    return None
