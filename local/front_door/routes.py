"""The table of routes: a file that is replaced whole and looked at for every request."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from local.home import replace_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.home import Home


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one instance listens ("127.0.0.1:PORT"), and which one must answer there."""

    address: str
    zone: str
    instance: str


@dataclass(frozen=True, slots=True)
class Route:
    """What a hostname (without port) leads to; disabled means suspended."""

    hostname: str
    enabled: bool
    origins: tuple[Origin, ...]


class Routes:
    """The table of one home."""

    def __init__(self, home: Home) -> None:
        self._file = home.path("front_door", "routes.json")
        self._seen: tuple[int, int, int] | None = None
        self._table: dict[str, Route] = {}

    def replace(self, routes: Sequence[Route]) -> None:
        """Put these in place of all there are; the next request goes by them."""
        replace_text(self._file, json.dumps([asdict(route) for route in routes], indent=1))

    def find(self, hostname: str) -> Route | None:
        """The route of a hostname in whatever case, from the table as it is now."""
        return self.table().get(normal(hostname))

    def table(self) -> dict[str, Route]:
        """Every route by its hostname; read again only when the file was replaced."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return {}
        version = found.st_ino, found.st_mtime_ns, found.st_size
        if version != self._seen:
            rows = json.loads(self._file.read_bytes())
            self._table = {normal(row["hostname"]): _route(row) for row in rows}
            self._seen = version
        return self._table


def normal(hostname: str) -> str:
    """A hostname as it is compared: lower case, without the root's dot."""
    return hostname.lower().rstrip(".")


def _route(row: dict[str, object]) -> Route:
    origins = row["origins"]
    assert isinstance(origins, list)  # noqa: S101 — written by `replace`
    return Route(
        hostname=str(row["hostname"]),
        enabled=bool(row["enabled"]),
        origins=tuple(Origin(**origin) for origin in origins),
    )
