"""The public side of spaces, answered by a function of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from spaces.errors import UnreachableError
from spaces.ports import Answer
from tests.fakes.faults import Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    body: bytes | None
    content_type: str | None


type Site = Callable[[Request], Answer]


class FakeEdge:
    def __init__(self) -> None:
        self.faults = Faults()
        self._sites: dict[str, Site] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        self.faults.before("request")
        parts = urlsplit(url)
        site = self._sites.get(parts.netloc)
        if site is None:
            raise UnreachableError("the space does not answer", where=url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        answer = site(Request(method=method, path=path, body=body, content_type=content_type))
        self.faults.after("request")
        return answer

    def serve(self, url: str, site: Site) -> None:
        """Let this function answer at a URL's host and port."""
        self._sites[urlsplit(url).netloc] = site

    def stop(self, url: str) -> None:
        """Nobody answers there any more."""
        self._sites.pop(urlsplit(url).netloc, None)


def answer(status: int, body: object) -> Answer:
    """A JSON answer."""
    return Answer(
        status=status,
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
    )


def space_app(
    *, space_id: str, release: str = "2026.11.1", zones: tuple[str, ...] = ("1", "2")
) -> Site:
    """A healthy space: `/healthz` in turn from each zone, and readings that are kept."""
    asked = 0
    readings: list[dict[str, object]] = []

    def site(request: Request) -> Answer:
        nonlocal asked
        match request.method, request.path:
            case "GET", "/healthz":
                at = asked % len(zones)
                asked += 1
                found = {
                    "instance": f"{space_id}_{at}",
                    "zone": zones[at],
                    "release": release,
                    "space_id": space_id,
                }
                return answer(200, found)
            case "GET", "/api/devices" | "/api/readings" | "/api/documents":
                return answer(200, readings if request.path == "/api/readings" else [])
            case "POST", "/api/devices" | "/api/readings":
                made = {"id": f"{len(readings) + 1}", **json.loads(request.body or b"{}")}
                readings.append(made)
                return answer(201, made)
            case _:
                return answer(404, {"title": "not found"})

    return site
