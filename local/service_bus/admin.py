"""Queues over HTTP: what the administration client asks for, and a plain list for tools.

`/$namespaceinfo` and `/_local/queues` answer anybody on this machine (health and tools, no
secrets); everything else needs a signature made with the namespace's key, as on Azure.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from local.service_bus import atom
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import State
from local.service_bus.namespace import ONLY_QUEUES
from local.service_bus.web import HttpConnection, HttpRequest, HttpResponse

if TYPE_CHECKING:
    from local.service_bus.core import Queue
    from local.service_bus.sas import SharedKey
    from local.service_bus.server import Server

_OPEN_TO_ALL = frozenset({"/$namespaceinfo", "/_local/queues"})
_PAGE = 100
_OF_TOPICS = re.compile(r"/subscriptions(/|$)|^\$resources/topics$", re.IGNORECASE)


class Admin:
    """The administration endpoint of a namespace."""

    def __init__(self, server: Server, key: SharedKey) -> None:
        self._server = server
        self._namespace = server.namespace
        self._key = key

    def protocol(self) -> HttpConnection:
        """The protocol of one client's connection."""
        return HttpConnection(self.respond)

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        try:
            self._authorize(request)
            return self._route(request)
        except BrokerError as refusal:
            status = refusal.status
            return HttpResponse(status, atom.error(status, refusal.description))

    def _authorize(self, request: HttpRequest) -> None:
        token = request.headers.get("authorization")
        if token is None and request.method == "GET" and request.path in _OPEN_TO_ALL:
            return
        self._key.check(token or "", time.time())

    def _route(self, request: HttpRequest) -> HttpResponse:
        match request.method, request.path.strip("/"):
            case "GET", "$namespaceinfo":
                return HttpResponse(200, atom.namespace())
            case "GET", "_local/queues":
                return self._plain_list()
            case "GET", path if path.lower() == "$resources/queues":
                return self._list(request)
            case _, path if _OF_TOPICS.search(path):
                raise BrokerError(Condition.NOT_IMPLEMENTED, ONLY_QUEUES)
            case "GET", name:
                return self._get(name)
            case "PUT", _:
                return self._put(request.path[1:], request)
            case "DELETE", name:
                return self._delete(name)
            case method, _:
                raise BrokerError(Condition.NOT_IMPLEMENTED, f"{method} is not implemented.")

    def _plain_list(self) -> HttpResponse:
        items = [{"name": queue.name, **counts(queue)} for queue in self._queues()]
        body = json.dumps({"items": items}).encode()
        return HttpResponse(200, body, "application/json")

    def _queues(self) -> list[Queue]:
        return sorted(self._namespace.queues.values(), key=lambda queue: queue.name.lower())

    def _list(self, request: HttpRequest) -> HttpResponse:
        skip, top = (_query_number(request, *what) for what in (("$skip", 0), ("$top", _PAGE)))
        queues = self._queues()
        page = ((queue, counts(queue)) for queue in queues[skip : skip + top])
        following = skip + top if skip + top < len(queues) else None
        return HttpResponse(200, atom.feed(page, here=skip, following=following, top=top))

    def _get(self, name: str) -> HttpResponse:
        queue = self._namespace.queues.get(name.lower())
        # The service answers an empty feed for what is not there, and the client expects it.
        if queue is None:
            return HttpResponse(200, atom.feed([]))
        return HttpResponse(200, atom.entry(queue, counts(queue)))

    def _put(self, name: str, request: HttpRequest) -> HttpResponse:
        is_update = request.headers.get("if-match") == "*"
        old = self._namespace.find(name).queue.settings if is_update else None
        now = self._namespace.clock()
        settings = atom.read_settings(name, request.body, old=old, now=now)
        namespace = self._namespace
        queue = (namespace.update if is_update else namespace.create)(settings)
        if not settings.can_receive:
            refusal = BrokerError(Condition.DISABLED, f"{queue.name} gives no messages.")
            self._server.end_links(queue, refusal, receiving_only=True)
        self._server.touch()
        return HttpResponse(200 if is_update else 201, atom.entry(queue, counts(queue)))

    def _delete(self, name: str) -> HttpResponse:
        queue = self._namespace.delete(name)
        gone = BrokerError(Condition.NOT_FOUND, f"The messaging entity '{name}' was deleted.")
        self._server.end_links(queue, gone, receiving_only=False)
        return HttpResponse(200)


def _query_number(request: HttpRequest, name: str, default: int) -> int:
    text = request.query.get(name, [str(default)])[0]
    if not text.isascii() or not text.isdigit():
        raise BrokerError(Condition.ARGUMENT, f"{name} must be a number.")
    return int(text)


def counts(queue: Queue) -> dict[str, int]:
    """How many messages a queue has, by state; locked and deferred ones are active too."""
    scheduled = sum(m.state is State.SCHEDULED for m in queue.active.messages.values())
    return {
        "active": len(queue.active.messages) - scheduled,
        "scheduled": scheduled,
        "dead_letter": len(queue.dead.messages),
        "locked": len(queue.active.locks),
    }
