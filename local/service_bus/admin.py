"""Queues, topics, subscriptions and rules over HTTP, and a plain list of queues for tools.

`/$namespaceinfo` and `/_local/queues` answer anybody on this machine (health and tools, no
secrets); everything else needs a signature with the right to manage what is asked for, as on Azure.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from local.service_bus import atom
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.filters.rule import DEFAULT
from local.service_bus.filters.wire import read_rule
from local.service_bus.model import Right
from local.service_bus.sas import path_of
from local.service_bus.settings import (
    check_name,
    check_short_name,
    read_settings,
    subscription_path,
)
from local.service_bus.topics import Subscription, Topic
from local.service_bus.web import HttpConnection, HttpRequest, HttpResponse

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable, Sequence

    from local.service_bus.core import Queue
    from local.service_bus.filters.rule import Rule
    from local.service_bus.server import Server

HELLO = b"\x16"  # a TLS handshake record; no HTTP request begins so
_OPEN_TO_ALL = frozenset({"/$namespaceinfo", "/_local/queues"})
_PAGE = 100
_PATH = re.compile(
    r"(?P<topic>.+?)/subscriptions(?:/(?P<sub>[^/]+)(?P<rules>/rules(?:/(?P<rule>[^/]+))?)?)?",
    re.IGNORECASE,
)
# What a request with forwarding carries beside its own signature: one for each destination.
_FORWARDING_HEADERS = (
    "servicebussupplementaryauthorization",
    "servicebusdlqsupplementaryauthorization",
)


class Place(NamedTuple):
    """What a path below a topic names; what is empty is not named."""

    topic: str
    subscription: str
    has_rules: bool
    rule: str


class Admin:
    """The administration endpoint of a namespace."""

    def __init__(self, server: Server, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._server = server
        self._namespace = server.namespace
        self._tls = tls

    def speaks(self, data: bytes) -> asyncio.Protocol:
        """Who goes on with a socket that begins so: HTTP, or that within TLS."""
        http = HttpConnection(self.respond)
        if not data.startswith(HELLO) or self._tls is None:
            return http
        from local.service_bus.tls import Tls  # noqa: PLC0415 — see there

        return Tls(http, self._tls())

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        try:
            self._authorize(request)
            self._namespace.move()  # so that counts are of messages where they belong
            return self._route(request)
        except BrokerError as refusal:
            status = refusal.status
            return HttpResponse(status, atom.error(status, refusal.description))
        finally:
            self._server.touch()

    def _authorize(self, request: HttpRequest) -> None:
        token = request.headers.get("authorization")
        if token is None and request.method == "GET" and request.path in _OPEN_TO_ALL:
            return
        self._check_token(token or "", request.path)

    def _check_token(self, token: str, path: str) -> None:
        now_s = time.time()
        if not self._server.keys.check(token, now_s).covers(path, now_s, Right.MANAGE):
            raise BrokerError(Condition.UNAUTHORIZED, "Manage claim is required for this.")

    def _route(self, request: HttpRequest) -> HttpResponse:  # noqa: PLR0911 — one per route
        path = request.path.strip("/")
        match request.method, path.lower():
            case "GET", "$namespaceinfo":
                return HttpResponse(200, atom.namespace())
            case "GET", "_local/queues":
                return self._plain_list()
            case "GET", "$resources/queues":
                return _page(request, self._namespace.queues)
            case "GET", "$resources/topics":
                return _page(request, self._namespace.topics)
        place = _place(path)
        if place is not None and (place.has_rules or place.rule):
            return self._rules(request, place)
        if place is not None and not place.subscription:
            return self._subscriptions(request, place)
        match request.method:
            case "GET":
                return self._get(path if place is None else self._path(place))
            case "PUT":
                return self._put(request, place)
            case "DELETE":
                self._namespace.delete(path if place is None else self._path(place))
                return HttpResponse(200)
            case method:
                raise BrokerError(Condition.NOT_IMPLEMENTED, f"{method} is not implemented.")

    def _plain_list(self) -> HttpResponse:
        names = ("active", "scheduled", "dead_letter", "locked")
        items = [
            {"name": queue.name, **{name: found[name] for name in names}}
            for queue in self._namespace.queues
            for found in [atom.counts(queue)]
        ]
        body = json.dumps({"items": items}).encode()
        return HttpResponse(200, body, "application/json")

    # --- queues, topics, subscriptions

    def _path(self, place: Place) -> str:
        return subscription_path(self._namespace.topic(place.topic).name, place.subscription)

    def _get(self, path: str) -> HttpResponse:
        found = self._namespace.entities.get(path.lower())
        # The service answers an empty feed for what is not there, and the client expects it.
        return HttpResponse(200, atom.feed([]) if found is None else atom.entry(found))

    def _put(self, request: HttpRequest, place: Place | None) -> HttpResponse:
        namespace, is_update = self._namespace, request.headers.get("if-match") == "*"
        asked = atom.read(request.body)
        if (asked.kind == "subscription") is (place is None) or asked.kind == "rule":
            raise BrokerError(
                Condition.ARGUMENT, f"A {asked.kind} cannot be made at this path."
            )
        if place is None:
            name = request.path[1:]
            check_name(name)
        else:
            check_short_name(place.subscription)
            name = self._path(place)
        old = self._known(name, asked.kind).settings if is_update else None
        now = namespace.clock()
        settings = read_settings(name, asked, kind=asked.kind, old=old, now=now)
        self._check_forwarding(request, (settings.forward_to, settings.forward_dead_to))
        if is_update:
            queue = namespace.update(settings)
        else:
            first = asked.element.find(f"{{{atom.SB}}}DefaultRuleDescription")
            rules = []
            if asked.kind == "subscription" and first is not None:
                name = first.findtext(f"{{{atom.SB}}}Name") or DEFAULT
                rules.append(read_rule(first, name=name, now=now))
            queue = namespace.create(settings, kind=asked.kind, rules=rules)
        self._end_receivers(queue)
        return HttpResponse(200 if is_update else 201, atom.entry(queue))

    def _known(self, name: str, kind: str) -> Queue:
        queue = self._namespace.find(name).queue
        is_kind = {
            "queue": not isinstance(queue, Topic | Subscription),
            "topic": isinstance(queue, Topic),
            "subscription": isinstance(queue, Subscription),
        }[kind]
        if not is_kind:
            raise BrokerError(Condition.EXISTS, f"'{name}' is no {kind}.")
        return queue

    def _check_forwarding(self, request: HttpRequest, addresses: Sequence[str]) -> None:
        for header, address in zip(_FORWARDING_HEADERS, addresses, strict=True):
            if address and (token := request.headers.get(header)) is not None:
                self._check_token(token, path_of(address))

    def _end_receivers(self, queue: Queue) -> None:
        settings = queue.settings
        if not settings.can_receive:
            why = BrokerError(Condition.DISABLED, f"{queue.name} gives no messages.")
        elif settings.forward_to:
            why = BrokerError(Condition.NOT_ALLOWED, f"{queue.name} forwards its messages.")
        else:
            return
        self._server.end_links(queue, why, receiving_only=True)

    def _subscriptions(self, request: HttpRequest, place: Place) -> HttpResponse:
        if request.method != "GET":
            raise BrokerError(Condition.NOT_IMPLEMENTED, "Subscriptions can only be listed.")
        found = self._namespace.topic(place.topic).subscriptions
        return _page(request, [found[name] for name in sorted(found)])

    # --- rules

    def _rules(self, request: HttpRequest, place: Place) -> HttpResponse:
        subscription = self._known(self._path(place), "subscription")
        if not isinstance(subscription, Subscription):
            raise BrokerError(Condition.NOT_FOUND, "There is no such subscription.")
        rules = subscription.rules
        if not place.rule:
            if request.method != "GET":
                raise BrokerError(Condition.NOT_IMPLEMENTED, "Rules can only be listed.")
            return _page(request, [rules[name] for name in sorted(rules)])
        found = rules.get(place.rule.lower())
        match request.method:
            case "GET":
                return HttpResponse(200, atom.feed([]) if found is None else atom.entry(found))
            case "PUT":
                return self._put_rule(request, subscription, place.rule)
            case "DELETE":
                self._namespace.delete_rule(subscription, place.rule)
                return HttpResponse(200)
            case method:
                raise BrokerError(Condition.NOT_IMPLEMENTED, f"{method} is not implemented.")

    def _put_rule(
        self, request: HttpRequest, subscription: Subscription, name: str
    ) -> HttpResponse:
        if name != DEFAULT:
            check_short_name(name)
        is_update = request.headers.get("if-match") == "*"
        old = subscription.rules.get(name.lower())
        if is_update and old is None:
            raise BrokerError(Condition.NOT_FOUND, f"There is no rule '{name}'.")
        if not is_update and old is not None:
            raise BrokerError(Condition.EXISTS, f"Rule '{name}' exists already.")
        asked = atom.read(request.body)
        if asked.kind != "rule":
            raise BrokerError(Condition.ARGUMENT, f"A {asked.kind} is no rule.")
        now = self._namespace.clock() if old is None else old.text.created_ms
        rule = read_rule(asked.element, name=name if old is None else old.name, now=now)
        self._namespace.put_rule(subscription, rule)
        return HttpResponse(200 if is_update else 201, atom.entry(rule))


def _place(path: str) -> Place | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    topic, sub, rules, rule = match.group("topic", "sub", "rules", "rule")
    return Place(topic, sub or "", rules is not None, rule or "")


def _page(request: HttpRequest, shown: Sequence[Queue] | Sequence[Rule]) -> HttpResponse:
    skip, top = (_query_number(request, *what) for what in (("$skip", 0), ("$top", _PAGE)))
    following = skip + top if skip + top < len(shown) else None
    page = atom.Page(request.path, skip, top, following)
    return HttpResponse(200, atom.feed(shown[skip : skip + top], page))


def _query_number(request: HttpRequest, name: str, default: int) -> int:
    text = request.query.get(name, [str(default)])[0]
    if not text.isascii() or not text.isdigit():
        raise BrokerError(Condition.ARGUMENT, f"{name} must be a number.")
    return int(text)
