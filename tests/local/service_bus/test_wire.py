"""Connections without sockets: credit, deliveries, what is told when, and links that end."""

from __future__ import annotations

import pytest

from local.service_bus import codec, frames
from local.service_bus.admin import Admin
from local.service_bus.model import QueueSettings
from local.service_bus.namespace import Namespace
from local.service_bus.server import Server
from local.service_bus.store import MemoryStore
from local.service_bus.web import HttpRequest
from tests.local.service_bus.peer import KEY, NULL, Peer, Transport, a_peer, a_server, signature
from tests.local.service_bus.rig import Clock, raw


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
