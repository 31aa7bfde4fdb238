"""kill -9 at work: what the broker has told a client is true after its restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError
from azure.servicebus.management import SqlRuleAction

from local.home import PROJECT
from tests.local.service_bus.process import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack

QUEUE = "backup-runs"


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


class Sender(threading.Thread):
    """Sends one message after the other, and keeps what it was told is accepted."""

    def __init__(self, client: ServiceBusClient, *, to: str = QUEUE) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._to = to
        self.accepted: list[str] = []
        self.sent_some = threading.Event()

    def run(self) -> None:
        with self._client.get_queue_sender(self._to) as sender:
            for number in range(1_000_000):
                text = str(number)
                try:
                    sender.send_messages(ServiceBusMessage(text, message_id=text))
                except ServiceBusError:
                    return  # the broker is dead
                self.accepted.append(text)
                if number == 200:
                    self.sent_some.set()


class Receiver(threading.Thread):
    """Completes one message after the other, and keeps what it was told is settled."""

    def __init__(self, client: ServiceBusClient) -> None:
        super().__init__(daemon=True)
        self._client = client
        self.completed: list[str] = []
        self.in_doubt: str | None = None  # asked to settle, and not told of it (yet)
        self.numbers: list[int] = []

    def run(self) -> None:
        receiver = self._client.get_queue_receiver(QUEUE, prefetch_count=20)
        try:
            while True:
                for message in receiver.receive_messages(20, max_wait_time=1):
                    self.in_doubt = str(message)
                    receiver.complete_message(message)
                    self.in_doubt = None
                    self.completed.append(str(message))
                    self.numbers.append(message.sequence_number or 0)
        except (ServiceBusError, ValueError):
            return  # the broker is dead


def test_no_accepted_message_is_lost_and_no_settled_one_comes_back(mortal: Broker) -> None:
    sender, receiver = Sender(mortal.client()), Receiver(mortal.client())
    receiver.start()
    sender.start()
    assert sender.sent_some.wait(20)
    mortal.kill()
    sender.join(20)
    receiver.join(20)
    assert receiver.completed
    mortal.start()
    left: dict[str, int] = {}
    with (
        mortal.client() as client,
        client.get_queue_receiver(QUEUE, prefetch_count=500) as again,
    ):
        while messages := again.receive_messages(500, max_wait_time=0.5):
            for message in messages:
                left[str(message)] = message.sequence_number or 0
                again.complete_message(message)
        with client.get_queue_sender(QUEUE) as more:
            more.send_messages(ServiceBusMessage("new"))
        [new] = again.receive_messages(max_wait_time=5)
        again.complete_message(new)
    # One settlement may have been on its way: committed, and the answer lost with the broker.
    gone = set(sender.accepted) - set(left) - set(receiver.completed)
    assert gone <= {receiver.in_doubt}
    assert not set(left) & set(receiver.completed)
    numbers = [*receiver.numbers, *left.values()]
    assert len(set(numbers)) == len(numbers)
    assert (new.sequence_number or 0) > max(numbers)


def test_each_copy_of_an_accepted_message_is_there_once(mortal: Broker) -> None:
    with mortal.admin() as admin:
        admin.create_topic("t")
        admin.create_queue("end", requires_duplicate_detection=False)
        admin.create_subscription("t", "plain")
        admin.create_subscription("t", "through", forward_to="end")
        admin.create_rule("t", "plain", "r", action=SqlRuleAction("SET seen = 1"))
        admin.create_queue("first", forward_to="t")
    sender = Sender(mortal.client(), to="first")
    sender.start()
    assert sender.sent_some.wait(20)
    mortal.kill()
    sender.join(20)
    mortal.start()
    found: dict[str, list[str]] = {}
    with mortal.client() as client:
        for name, receiver in {
            "plain": client.get_subscription_receiver("t", "plain"),
            "end": client.get_queue_receiver("end"),
        }.items():
            found[name] = []
            with receiver:
                start = 0
                while peeked := receiver.peek_messages(500, sequence_number=start):
                    start = (peeked[-1].sequence_number or 0) + 1
                    found[name] += map(str, peeked)
    # The last one may have been committed, and its answer lost with the broker.
    assert len(found["end"]) - len(sender.accepted) in {0, 1}
    assert found["end"] == [str(number) for number in range(len(found["end"]))]
    # Two rules match in the other subscription: one copy of each.
    assert Counter(found["plain"]) == Counter(found["end"] * 2)
    items = mortal.get("/_local/queues").decode()
    assert '"name": "first", "active": 0, "scheduled": 0, "dead_letter": 0' in items


def test_dead_letters_schedules_counts_and_ids_survive(mortal: Broker) -> None:
    with mortal.client() as client:
        sender = client.get_queue_sender(QUEUE)
        receiver = client.get_queue_receiver(QUEUE, prefetch_count=1)
        sender.send_messages(ServiceBusMessage("bad", message_id="1"))
        [bad] = receiver.receive_messages(max_wait_time=5)
        receiver.dead_letter_message(bad, reason="why")
        sender.send_messages(ServiceBusMessage("in hand", message_id="2"))
        receiver.receive_messages(max_wait_time=5)
        due = datetime.now(UTC) + timedelta(hours=1)
        [number] = sender.schedule_messages(ServiceBusMessage("later"), due)
        mortal.kill()
        mortal.start()
    items = mortal.get("/_local/queues").decode()
    assert f'"name": "{QUEUE}", "active": 1, "scheduled": 1, "dead_letter": 1' in items
    with mortal.patient_client() as client:
        sender = client.get_queue_sender(QUEUE)
        receiver = client.get_queue_receiver(QUEUE, prefetch_count=1)
        sender.send_messages(ServiceBusMessage("twice", message_id="2"))
        [message] = receiver.receive_messages(max_wait_time=5)
        assert (str(message), message.delivery_count) == ("in hand", 1)
        receiver.complete_message(message)
        sender.cancel_scheduled_messages(number)
    items = mortal.get("/_local/queues").decode()
    assert f'"name": "{QUEUE}", "active": 0, "scheduled": 0, "dead_letter": 1' in items


def test_the_same_sender_goes_on_after_a_restart(mortal: Broker) -> None:
    with mortal.patient_client() as client:
        sender = client.get_queue_sender(QUEUE)
        sender.send_messages(ServiceBusMessage("before"))
        mortal.kill()
        mortal.start()
        sender.send_messages(ServiceBusMessage("after"))
    assert b'"active": 2' in mortal.get("/_local/queues")


def test_a_second_broker_is_refused_and_the_first_ends_cleanly(mortal: Broker) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "local.service_bus"],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(mortal.home.root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert second.returncode == 1
    assert "Another broker has" in second.stderr.splitlines()[-1]
    with mortal.client() as client, client.get_queue_sender(QUEUE) as sender:
        sender.send_messages(ServiceBusMessage("x"))
        assert mortal.kill(signal.SIGTERM) == 0
