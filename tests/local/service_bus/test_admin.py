"""The administration client, unmodified, over plain http."""

from __future__ import annotations

import json
import socket
import urllib.error
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio.management import (
    ServiceBusAdministrationClient as AioAdministrationClient,
)
from azure.servicebus.management import (
    AccessRights,
    AuthorizationRule,
    EntityStatus,
    ServiceBusAdministrationClient,
)

from local.key_vault.ca import ca_file
from tests.local.service_bus.process import AioPlainHttp, PlainHttp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.service_bus.process import Broker, Links

pytestmark = pytest.mark.stack

RULE = AuthorizationRule(
    type="SharedAccessAuthorizationRule",
    claim_type="SharedAccessKey",
    claim_value="None",
    rights=[AccessRights.LISTEN],
    key_name="reader",
    primary_key="cHJpbWFyeQ==",
    secondary_key="c2Vjb25kYXJ5",
)


@pytest.fixture
def admin(broker: Broker) -> Iterator[ServiceBusAdministrationClient]:
    with broker.admin() as admin:
        yield admin


def test_the_declared_queues_are_there(broker: Broker) -> None:
    items = {item["name"] for item in json.loads(broker.get("/_local/queues"))["items"]}
    assert {"billing-events", "provisioning-steps", "backup-runs"} <= items


def test_a_declared_queue_has_its_declared_settings(
    admin: ServiceBusAdministrationClient,
) -> None:
    queue = admin.get_queue("Billing-Events")
    assert queue.lock_duration == timedelta(seconds=30)
    assert queue.max_delivery_count == 5
    assert queue.requires_duplicate_detection
    assert queue.duplicate_detection_history_time_window == timedelta(minutes=10)


def test_a_queue_is_made_read_changed_listed_and_deleted(
    admin: ServiceBusAdministrationClient,
) -> None:
    made = admin.create_queue(
        "life",
        lock_duration=timedelta(seconds=7),
        max_delivery_count=4,
        requires_session=True,
        default_message_time_to_live=timedelta(days=2, seconds=3),
        dead_lettering_on_message_expiration=True,
        max_size_in_megabytes=2048,
        user_metadata="for <tests>",
    )
    queue = admin.get_queue("life")
    assert queue.name == made.name == "life"
    assert queue.lock_duration == timedelta(seconds=7)
    assert (queue.max_delivery_count, queue.requires_session) == (4, True)
    assert queue.default_message_time_to_live == timedelta(days=2, seconds=3)
    assert queue.dead_lettering_on_message_expiration
    assert (queue.max_size_in_megabytes, queue.user_metadata) == (2048, "for <tests>")
    assert queue.status == EntityStatus.ACTIVE
    with pytest.raises(ResourceExistsError):
        admin.create_queue("LIFE")
    queue.max_delivery_count = 9
    admin.update_queue(queue)
    changed = admin.get_queue("life")
    assert (changed.max_delivery_count, changed.requires_session) == (9, True)
    assert "life" in [q.name for q in admin.list_queues(max_page_size=2)]
    admin.delete_queue("life")
    with pytest.raises(ResourceNotFoundError):
        admin.get_queue("life")
    with pytest.raises(ResourceNotFoundError):
        admin.delete_queue("life")


def test_runtime_counts(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    name = broker.queue()
    sender, receiver = links.both(name)
    sender.send_messages([ServiceBusMessage(str(n)) for n in range(4)])
    sender.schedule_messages(ServiceBusMessage("x"), datetime.now(UTC) + timedelta(hours=1))
    locked, dead = receiver.receive_messages(2, max_wait_time=5)
    receiver.dead_letter_message(dead)
    counts = admin.get_queue_runtime_properties(name)
    assert counts.active_message_count == 3
    assert counts.scheduled_message_count == counts.dead_letter_message_count == 1
    assert counts.total_message_count == 5
    assert counts.size_in_bytes > 0
    items = json.loads(broker.get("/_local/queues"))["items"]
    assert {"name": name, "active": 3, "scheduled": 1, "dead_letter": 1, "locked": 1} in items
    receiver.complete_message(locked)


def test_the_namespace_has_a_name(admin: ServiceBusAdministrationClient) -> None:
    assert admin.get_namespace_properties().name == "kpax-local"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("-bad", {}),
        ("a b", {}),
        ("x" * 261, {}),
        ("long-lock", {"lock_duration": timedelta(minutes=6)}),
        ("no-deliveries", {"max_delivery_count": 0}),
        ("short-window", {"duplicate_detection_history_time_window": timedelta(seconds=1)}),
        ("short-life", {"default_message_time_to_live": timedelta(milliseconds=1)}),
        ("a//b", {}),
        ("$q", {}),
        ("/a", {}),
        ("q/Subscriptions/s", {}),
        ("odd-size", {"max_size_in_megabytes": 1_500}),
        ("vast", {"max_size_in_megabytes": 90_112}),
        ("large-messages", {"max_message_size_in_kilobytes": 102_400}),
    ],
)
def test_what_cannot_be_is_refused_and_not_made(
    admin: ServiceBusAdministrationClient, name: str, settings: dict[str, Any]
) -> None:
    before = [queue.name for queue in admin.list_queues()]
    with pytest.raises(HttpResponseError) as refusal:
        admin.create_queue(name, **settings)
    assert refusal.value.status_code in {400, 501}
    assert [queue.name for queue in admin.list_queues()] == before


def test_what_is_fixed_at_birth_cannot_be_changed(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    queue = admin.get_queue(broker.queue())
    queue.requires_session = True
    with pytest.raises(HttpResponseError, match="RequiresSession"):
        admin.update_queue(queue)


def test_a_queue_made_without_wishes_has_the_defaults_of_the_service(
    admin: ServiceBusAdministrationClient,
) -> None:
    queue = admin.create_queue("defaults")
    assert (queue.lock_duration, queue.max_delivery_count) == (timedelta(minutes=1), 10)
    assert (queue.max_size_in_megabytes, queue.enable_batched_operations) == (1_024, True)
    assert (queue.requires_session, queue.requires_duplicate_detection) == (False, False)
    assert (queue.user_metadata, queue.forward_to, queue.status) == (None, None, "Active")
    assert isinstance(queue.default_message_time_to_live, timedelta)
    assert queue.default_message_time_to_live > timedelta(days=10_000_000)


def test_receiving_moves_the_time_of_access(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    name = broker.queue()
    sender, receiver = links.both(name)
    sender.send_messages(ServiceBusMessage("x"))
    sent = admin.get_queue_runtime_properties(name).accessed_at_utc
    [message] = receiver.receive_messages(max_wait_time=5)
    received = admin.get_queue_runtime_properties(name).accessed_at_utc
    assert sent is not None
    assert received is not None
    assert received > sent
    receiver.complete_message(message)
    assert admin.get_queue_runtime_properties(name).size_in_bytes == 0


async def test_the_asynchronous_client_administers_too(broker: Broker) -> None:
    client = AioAdministrationClient.from_connection_string(
        broker.admin_string, transport=AioPlainHttp(), retry_total=0
    )
    async with client as admin:
        made = await admin.create_queue("aio", lock_duration=timedelta(seconds=9))
        made.max_delivery_count = 3
        await admin.update_queue(made)
        with pytest.raises(ResourceExistsError):
            await admin.create_queue("aio")
        got = await admin.get_queue("aio")
        assert (got.lock_duration, got.max_delivery_count) == (timedelta(seconds=9), 3)
        assert "aio" in [queue.name async for queue in admin.list_queues()]
        counts = await admin.get_queue_runtime_properties("aio")
        assert counts.total_message_count == 0
        await admin.delete_queue("aio")
        with pytest.raises(ResourceNotFoundError):
            await admin.get_queue("aio")


def test_a_client_that_trusts_the_stack_needs_no_transport_of_its_own(broker: Broker) -> None:
    authority = str(ca_file(broker.home))
    client = ServiceBusAdministrationClient.from_connection_string(
        broker.admin_string, connection_verify=authority, retry_total=0
    )
    with client as admin:
        assert admin.get_queue("billing-events").max_delivery_count == 5
        made = admin.create_queue(broker.name(), user_metadata="x" * 1_000)
        assert made.name in [queue.name for queue in admin.list_queues()]
    with (
        ServiceBusAdministrationClient.from_connection_string(
            broker.admin_string, retry_total=0
        ) as stranger,
        pytest.raises(ServiceRequestError, match="certificate verify failed"),
    ):
        stranger.get_queue("billing-events")
    port = broker.home.port("service_bus_admin")
    with socket.create_connection(("127.0.0.1", port), 5) as raw:
        raw.sendall(b"\x16\x03\x01\x00\x05hello")
        raw.settimeout(5)
        while raw.recv(1_000):  # an alert, and the end
            pass
    assert broker.get("/$namespaceinfo")


def test_a_wrong_key_is_refused(broker: Broker) -> None:
    wrong = broker.admin_string.replace("SharedAccessKey=", "SharedAccessKey=x")
    with (
        ServiceBusAdministrationClient.from_connection_string(
            wrong, transport=PlainHttp()
        ) as admin,
        pytest.raises(HttpResponseError),
    ):
        admin.get_queue("billing-events")
    with pytest.raises(urllib.error.HTTPError):
        broker.get("/billing-events")
