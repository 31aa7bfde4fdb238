"""Connections without sockets: frames in, frames out, and whatever a stranger may send."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from hashlib import sha256
from hmac import digest
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.service_bus import codec, frames
from local.service_bus.admin import Admin
from local.service_bus.errors import BrokerError
from local.service_bus.model import AccessRule, QueueSettings, Right
from local.service_bus.namespace import Namespace
from local.service_bus.sas import Keyring, SharedKey
from local.service_bus.server import Connection, Server
from local.service_bus.store import MemoryStore
from local.service_bus.web import HttpRequest
from tests.local.service_bus.rig import Clock, raw

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = Keyring(SharedKey("kpax", "secret"), lambda _path: ())
NULL = codec.NULL


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close


class Peer:
    """A client that speaks frames, on a broker with the queue `q`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = Connection(server)
        self.transport = Transport()
        self.connection.connection_made(cast("asyncio.BaseTransport", self.transport))
        self._read = 0

    def feed(self, data: bytes) -> None:
        """Bytes from the client, and the end of the turn."""
        self.connection.data_received(data)
        self.server.flush()

    def send(self, code: int, *fields: bytes, payload: bytes = b"", channel: int = 0) -> None:
        """One frame from the client."""
        self.feed(frames.frame(channel, codec.composite(code, fields) + payload))

    def answers(self) -> list[tuple[int, list[Any], bytes]]:
        """Frames that were written since the last time: code, fields, payload."""
        found = []
        data = self.transport.written
        while self._read < len(data):
            if data[self._read : self._read + 4] == b"AMQP":
                self._read += 8
                continue
            size = int.from_bytes(data[self._read : self._read + 4])
            body = data[self._read + 8 : self._read + size]
            self._read += size
            if body[2] == frames.SASL_MECHANISMS or body[2] == frames.SASL_OUTCOME:
                continue
            code, values, end = frames.read(body)
            found.append((code, values, body[end:]))
        return found

    def open(self, *, product: str = "other") -> None:
        """Log in with the key, open, begin."""
        self.feed(frames.SASL_HEADER)
        login = codec.binary(b"\0kpax\0secret")
        fields = (codec.symbol("PLAIN"), login)
        self.feed(frames.performative(0, frames.SASL_INIT, fields, kind=1))
        self.feed(frames.AMQP_HEADER)
        properties = codec.map_((codec.symbol("product"), codec.string(product)))
        self.send(frames.OPEN, codec.string("me"), *[NULL] * 8, properties)
        self.send(frames.BEGIN, NULL, codec.uint(0), codec.uint(100), codec.uint(100))

    def attach(
        self, address: str, *, receiver: bool, handle: int = 0, settled: bool = False
    ) -> None:
        """Attach a link to a queue."""
        terminus = codec.string(address)
        self.send(
            frames.ATTACH,
            codec.string(f"link-{handle}"),
            codec.uint(handle),
            codec.boolean(receiver),
            codec.ubyte(int(settled)),
            codec.ubyte(0),
            codec.composite(frames.SOURCE, (terminus,)),
            codec.composite(frames.TARGET, (terminus,)),
            NULL,
            NULL,
            codec.uint(0),
        )

    def transfer(
        self, payload: bytes, *, number: int = 0, more: bool = False, handle: int = 0
    ) -> None:
        """A message, or a part of one."""
        self.send(
            frames.TRANSFER,
            codec.uint(handle),
            codec.uint(number),
            codec.binary(b"tag"),
            codec.uint(0),
            codec.FALSE,
            codec.boolean(more),
            payload=payload,
        )

    def credit(
        self, count: int, *, handle: int = 0, seen: int = 0, drain: bool = False
    ) -> None:
        """Credit for a receiving link."""
        numbers = [codec.uint(n) for n in (0, 100, 0, 100, handle, seen, count)]
        self.send(frames.FLOW, *numbers, NULL, codec.boolean(drain))


def a_server(clock: Callable[[], int] | None = None, **what: Any) -> Server:
    def fail(error: Exception) -> None:
        raise error

    queue = QueueSettings(name="q", **what)
    namespace = Namespace(MemoryStore(), clock=clock or Clock(), declared=[queue])
    return Server(namespace, KEY, on_failure=fail)


async def a_peer(**what: Any) -> Peer:
    peer = Peer(a_server(**what))
    peer.open()
    peer.answers()
    return peer


async def test_a_client_without_credit_of_its_own_gets_some_at_once() -> None:
    peer = await a_peer()
    peer.attach("amqps://host/Q", receiver=False)
    codes = [code for code, _, _ in peer.answers()]
    assert codes == [frames.ATTACH, frames.FLOW]


async def test_the_python_sdk_is_spared_a_frame_and_topped_up_before_its_credit_ends() -> None:
    peer = Peer(a_server())
    peer.open(product="azsdk-python-servicebus")
    peer.attach("q", receiver=False)
    assert frames.FLOW not in [code for code, _, _ in peer.answers()]
    flows = []
    for number in range(2_600):
        peer.transfer(raw("x"), number=number)
        flows += [fields for code, fields, _ in peer.answers() if code == frames.FLOW]
    assert [(fields[5], fields[6]) for fields in flows] == [(2_500, 5_000)]


async def test_a_message_in_several_frames_is_one_message() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False)
    whole = raw("x" * 1_000)
    peer.transfer(whole[:400], more=True)
    peer.transfer(whole[400:700], more=True)
    assert not peer.server.namespace.entities["q"].active.messages
    peer.transfer(whole[700:])
    code, fields, _ = peer.answers()[-1]
    assert (code, fields[4].descriptor) == (frames.DISPOSITION, frames.ACCEPTED)
    [message] = peer.server.namespace.entities["q"].active.messages.values()
    assert message.raw == whole


async def test_what_is_no_message_is_rejected_and_the_link_lives() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False)
    peer.transfer(b"rubbish")
    assert peer.answers()[-1][1][4].descriptor == frames.REJECTED
    peer.transfer(raw("x"))
    assert peer.answers()[-1][1][4].descriptor == frames.ACCEPTED


async def test_a_delivery_is_split_to_what_the_client_can_take() -> None:
    peer = Peer(a_server())
    peer.open()
    peer.connection.max_frame = 512
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    peer.transfer(raw("y" * 2_000))
    peer.answers()
    peer.credit(1, handle=1)
    parts = [
        (fields[5], payload)
        for code, fields, payload in peer.answers()
        if code == frames.TRANSFER
    ]
    assert [more for more, _ in parts] == [True] * (len(parts) - 1) + [False]
    assert b"y" * 2_000 in b"".join(payload for _, payload in parts)


async def test_credit_is_kept_and_a_drain_gives_the_rest_back() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    for number in range(3):
        peer.transfer(raw(str(number)), number=number)
    peer.answers()
    peer.credit(2, handle=1)
    assert [code for code, _, _ in peer.answers()].count(frames.TRANSFER) == 2
    peer.credit(5, handle=1, seen=2, drain=True)
    answers = peer.answers()
    assert [code for code, _, _ in answers] == [frames.TRANSFER, frames.FLOW]
    assert answers[-1][1][5:9] == [7, 0, None, True]


async def test_nothing_is_delivered_to_a_client_that_does_not_read() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    peer.connection.pause_writing()
    peer.credit(10, handle=1)
    peer.transfer(raw("x"))
    assert frames.TRANSFER not in [code for code, _, _ in peer.answers()]
    peer.connection.resume_writing()
    peer.server.flush()
    assert frames.TRANSFER in [code for code, _, _ in peer.answers()]


async def test_one_turn_writes_no_more_than_its_share_to_one_client() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    for number in range(20):
        peer.transfer(raw("z" * 900_000), number=number)
    peer.answers()
    peer.connection.data_received(
        frames.performative(
            0, frames.FLOW, [codec.uint(n) for n in (0, 100, 0, 100, 1, 0, 100)]
        )
    )
    assert peer.connection._out_bytes < 6_000_000
    for _ in range(10):
        peer.server.flush()
    transfers = {fields[1] for code, fields, _ in peer.answers() if code == frames.TRANSFER}
    assert len(transfers) == 20


async def test_nothing_is_told_before_it_is_committed() -> None:
    told_at_commit: list[int] = []
    transports: list[Transport] = []

    class Watching(MemoryStore):
        def commit(self) -> None:
            told_at_commit.append(sum(len(transport.written) for transport in transports))

    namespace = Namespace(Watching(), clock=Clock(), declared=[QueueSettings(name="q")])
    server = Server(namespace, KEY, on_failure=lambda error: pytest.fail(str(error)))
    peer = Peer(server)
    transports.append(peer.transport)
    peer.open()
    peer.attach("q", receiver=False)
    before = len(peer.transport.written)
    peer.connection.data_received(
        frames.frame(
            0,
            codec.composite(
                frames.TRANSFER,
                (codec.uint(0), codec.uint(0), codec.binary(b"t"), codec.uint(0)),
            )
            + raw("x"),
        )
    )
    told_at_commit.clear()
    peer.server.flush()
    assert told_at_commit == [before]
    assert len(peer.transport.written) > before


async def test_a_failed_commit_tells_nothing() -> None:
    failures: list[Exception] = []

    class Broken(MemoryStore):
        is_broken = False

        def commit(self) -> None:
            if self.is_broken:
                raise OSError("no space left")

    store = Broken()
    namespace = Namespace(store, clock=Clock(), declared=[QueueSettings(name="q")])
    peer = Peer(Server(namespace, KEY, on_failure=failures.append))
    peer.open()
    peer.attach("q", receiver=False)
    peer.answers()
    store.is_broken = True
    peer.transfer(raw("x"))
    assert peer.answers() == []
    assert [str(error) for error in failures] == ["no space left"]


async def test_transactions_are_refused_when_they_begin() -> None:
    peer = await a_peer()
    peer.send(
        frames.ATTACH,
        codec.string("transactions"),
        codec.uint(0),
        codec.FALSE,
        NULL,
        NULL,
        codec.composite(frames.SOURCE, ()),
        codec.composite(frames.COORDINATOR, ()),
        NULL,
        NULL,
        codec.uint(0),
    )
    code, fields, _ = peer.answers()[-1]
    assert (code, fields[2].value[0]) == (frames.DETACH, "amqp:not-implemented")
    assert "no transactions" in fields[2].value[1]


async def test_a_link_without_a_token_is_refused() -> None:
    peer = Peer(a_server())
    peer.feed(frames.AMQP_HEADER)
    peer.send(frames.OPEN, codec.string("me"))
    peer.send(frames.BEGIN, NULL, codec.uint(0), codec.uint(1), codec.uint(1))
    for address in ("q", "q/$management", "no-such"):
        peer.attach(address, receiver=False)
        code, fields, _ = peer.answers()[-1]
        assert (code, fields[2].value[0]) == (frames.DETACH, "amqp:unauthorized-access")


@pytest.mark.parametrize(
    "state",
    [
        codec.composite(
            frames.REJECTED, (codec.composite(0x1D, (codec.uint(5), codec.long(7))),)
        ),
        codec.composite(frames.REJECTED, ()),
        codec.composite(frames.REJECTED, (codec.string("x" * 9_000),)),
    ],
)
async def test_a_strange_reason_does_not_hurt_who_reads_the_dead_letter(state: bytes) -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    peer.attach("q/$DeadLetterQueue", receiver=True, handle=2)
    peer.transfer(raw("x"))
    peer.credit(1, handle=1)
    peer.answers()
    peer.send(frames.DISPOSITION, codec.TRUE, codec.uint(0), codec.uint(0), codec.FALSE, state)
    assert peer.answers()[-1][1][4].descriptor == frames.REJECTED
    peer.credit(1, handle=2)
    assert frames.TRANSFER in [code for code, _, _ in peer.answers()]


async def test_a_wrong_password_ends_the_connection() -> None:
    peer = Peer(a_server())
    peer.feed(frames.SASL_HEADER)
    fields = (codec.symbol("PLAIN"), codec.binary(b"\0kpax\0wrong"))
    peer.feed(frames.performative(0, frames.SASL_INIT, fields, kind=1))
    assert peer.transport.is_closed
    assert not peer.connection.is_trusted


async def test_links_to_a_deleted_queue_end_and_take_nothing_more() -> None:
    peer = await a_peer()
    peer.attach("q", receiver=False, handle=0)
    peer.attach("q", receiver=True, handle=1)
    peer.answers()
    admin = Admin(peer.server)
    headers = {"authorization": signature("sb://host/q")}
    answer = admin.respond(HttpRequest("DELETE", "/q", {}, headers, b""))
    assert answer.status == 200
    peer.server.flush()
    ended = peer.answers()
    assert [code for code, _, _ in ended] == [frames.DETACH] * 2
    assert {fields[2].value[0] for _, fields, _ in ended} == {"amqp:not-found"}
    peer.transfer(raw("x"))
    assert peer.answers() == []


def signature(resource: str, key: str = "secret", *, lasts_s: int = 60) -> str:
    """A shared access signature."""
    until, encoded = int(time.time()) + lasts_s, quote_plus(resource)
    signed = b64encode(digest(key.encode(), f"{encoded}\n{until}".encode(), sha256)).decode()
    return f"SharedAccessSignature sr={encoded}&sig={quote_plus(signed)}&se={until}&skn=kpax"


def test_a_token_opens_its_path_and_what_lies_below() -> None:
    grant = KEY.check(signature("sb://host:1/Q"), time.time())
    assert [grant.covers(p, time.time()) for p in ("q", "Q/$DeadLetterQueue", "q2", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert KEY.check(signature("sb://host:1/"), time.time()).covers("anything", time.time())
    assert not grant.covers("q", time.time() + 61)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer x",
        "SharedAccessSignature sr=x",
        signature("sb://h/q", "wrong"),
        signature("sb://h/q", lasts_s=-1),
        signature("sb://h/q").replace("skn=kpax", "skn=other"),
        signature("sb://h/q").replace("%2Fq", "%2Fother"),
    ],
)
def test_a_token_that_is_not_ours_opens_nothing(token: str) -> None:
    with pytest.raises(Exception, match="Unauthorized"):
        KEY.check(token, time.time())


# --- strangers


def _conversation() -> list[bytes]:
    """Frames of a good client, to be damaged."""
    link = codec.composite(frames.SOURCE, (codec.string("q"),))
    names = (codec.string("l"), codec.uint(0))
    modes = (codec.ubyte(0), codec.ubyte(1), link, link, NULL, NULL, codec.uint(0))
    sender = frames.performative(0, frames.ATTACH, (*names, codec.FALSE, *modes))
    names = (codec.string("m"), codec.uint(1))
    receiver = frames.performative(0, frames.ATTACH, (*names, codec.TRUE, *modes))
    flow = [codec.uint(n) for n in (0, 100, 0, 100, 1, 0, 10)]
    transfer = (codec.uint(0), codec.uint(0), codec.binary(b"t"), codec.uint(0))
    body = codec.composite(frames.TRANSFER, transfer) + raw("x", message_id="m", ttl_ms=5)
    settled = (codec.TRUE, codec.uint(0), codec.uint(9), codec.FALSE, frames.MODIFIED_STATE)
    return [
        sender,
        receiver,
        frames.performative(0, frames.FLOW, flow),
        frames.frame(0, body),
        frames.performative(0, frames.DISPOSITION, settled),
        frames.performative(0, frames.DETACH, (codec.uint(0), codec.TRUE)),
        frames.performative(0, frames.END, ()),
        frames.performative(0, frames.CLOSE, ()),
    ]


@given(st.binary(max_size=300))
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_of_a_stranger_raise(data: bytes) -> None:
    async def run() -> None:
        for begin in (b"", frames.SASL_HEADER, frames.AMQP_HEADER):
            Peer(a_server()).feed(begin + data)

    asyncio.run(run())


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_damaged_frame_raises_or_breaks_the_broker(data: st.DataObject) -> None:
    async def run() -> None:
        peer = await a_peer()
        good = _conversation()
        for frame in good:
            damaged = bytearray(frame)
            for _ in range(data.draw(st.integers(0, 2))):
                damaged[data.draw(st.integers(8, len(frame) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            peer.feed(bytes(damaged))
        other = Peer(peer.server)  # somebody else is served as ever
        other.open()
        other.attach("q", receiver=False)
        other.transfer(raw("fine"))
        assert other.answers()[-1][1][4].descriptor == frames.ACCEPTED

    asyncio.run(run())


@pytest.mark.parametrize(
    "size", [b"\x00\x00\x00\x07", b"\x7f\xff\xff\xff", b"\x00\x20\x00\x00"]
)
async def test_a_frame_of_an_impossible_size_ends_the_connection(size: bytes) -> None:
    peer = await a_peer()
    peer.feed(size + b"\x02\x00\x00\x00")
    code, fields, _ = peer.answers()[-1]
    assert (code, fields[0].value[0]) == (frames.CLOSE, "amqp:connection:framing-error")
    assert peer.transport.is_closed


def test_a_key_of_an_entity_opens_that_entity_with_its_rights() -> None:
    rule = AccessRule(
        key_name="kpax", rights=("Listen",), primary_key="one", secondary_key="two"
    )
    asked: list[str] = []

    def rules(path: str) -> list[AccessRule]:
        asked.append(path)
        return [rule] if path.startswith("q") else []

    keys = Keyring(SharedKey("kpax", "secret"), rules)
    now = time.time()
    for key in ("one", "two"):
        grant = keys.check(signature("sb://host:1/Q", key), now)
        assert grant.covers("q/$management", now, Right.LISTEN)
        assert not grant.covers("q", now, Right.SEND)
        assert not grant.covers("other", now, Right.LISTEN)
    assert asked == ["q", "q"]
    for resource, key in (
        ("sb://host:1/other", "one"),
        ("sb://host:1/", "one"),
        ("sb://host:1/q", "x"),
    ):
        with pytest.raises(BrokerError):
            keys.check(signature(resource, key), now)
