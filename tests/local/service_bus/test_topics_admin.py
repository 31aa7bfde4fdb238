"""Topics, subscriptions, rules, forwarding and keys through the administration client, unmodified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio.management import (
    ServiceBusAdministrationClient as AioAdministrationClient,
)
from azure.servicebus.management import (
    AccessRights,
    AuthorizationRule,
    CorrelationRuleFilter,
    EntityStatus,
    FalseRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from tests.local.service_bus.process import AioPlainHttp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.service_bus.process import Broker, Links

# The SDK asks an XML element for its truth value, and is warned.
pytestmark = [pytest.mark.stack, pytest.mark.filterwarnings("ignore:Testing an element")]

FOREVER = timedelta(days=10_675_000)


@pytest.fixture
def admin(broker: Broker) -> Iterator[ServiceBusAdministrationClient]:
    with broker.admin() as admin:
        yield admin


def test_a_topic_is_made_read_changed_listed_and_deleted(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    name = f"{broker.name()}/.-_x"
    made = admin.create_topic(
        name,
        default_message_time_to_live=timedelta(minutes=11),
        max_size_in_megabytes=3072,
        requires_duplicate_detection=True,
        duplicate_detection_history_time_window=timedelta(minutes=12),
        auto_delete_on_idle=timedelta(minutes=10),
        user_metadata="<m>",
    )
    topic = admin.get_topic(name.upper())
    assert made.name == name
    assert topic.default_message_time_to_live == timedelta(minutes=11)
    assert (topic.max_size_in_megabytes, topic.user_metadata) == (3072, "<m>")
    assert topic.requires_duplicate_detection
    assert topic.duplicate_detection_history_time_window == timedelta(minutes=12)
    assert topic.auto_delete_on_idle == timedelta(minutes=10)
    assert (topic.status, topic.availability_status) == (EntityStatus.ACTIVE, "Available")
    assert (topic.support_ordering, topic.enable_partitioning, topic.enable_express) == (
        True,
        False,
        False,
    )
    for kind in (admin.create_topic, admin.create_queue):
        with pytest.raises(ResourceExistsError):
            kind(name)
    admin.update_topic(topic, default_message_time_to_live="PT1H", support_ordering=False)
    changed = admin.get_topic(name)
    assert changed.default_message_time_to_live == timedelta(hours=1)
    assert changed.support_ordering is False
    assert name in [topic.name for topic in admin.list_topics(max_page_size=2)]
    assert name not in [queue.name for queue in admin.list_queues()]
    with pytest.raises(HttpResponseError, match="RequiresDuplicateDetection"):
        admin.update_topic(changed, requires_duplicate_detection=False)
    admin.delete_topic(name)
    with pytest.raises(ResourceNotFoundError):
        admin.get_topic(name)
    with pytest.raises(ResourceNotFoundError):
        admin.delete_topic(name)


def test_a_subscription_is_made_read_changed_listed_and_deleted(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("b", "c")
    admin.create_subscription(
        topic,
        "a",
        lock_duration=timedelta(seconds=13),
        requires_session=True,
        default_message_time_to_live=timedelta(minutes=11),
        dead_lettering_on_message_expiration=True,
        dead_lettering_on_filter_evaluation_exceptions=False,
        max_delivery_count=14,
        auto_delete_on_idle=timedelta(minutes=10),
        user_metadata="m",
    )
    sub = admin.get_subscription(topic, "A")
    assert sub.lock_duration == timedelta(seconds=13)
    assert (sub.requires_session, sub.max_delivery_count, sub.user_metadata) == (True, 14, "m")
    assert sub.default_message_time_to_live == timedelta(minutes=11)
    assert sub.dead_lettering_on_message_expiration
    assert sub.dead_lettering_on_filter_evaluation_exceptions is False
    assert sub.auto_delete_on_idle == timedelta(minutes=10)
    assert (sub.status, sub.availability_status) == ("Active", "Available")
    with pytest.raises(ResourceExistsError):
        admin.create_subscription(topic, "A")
    admin.update_subscription(topic, sub, max_delivery_count=3, lock_duration="PT1M3S")
    changed = admin.get_subscription(topic, "a")
    assert (changed.max_delivery_count, changed.name) == (3, "a")
    assert changed.lock_duration == timedelta(minutes=1, seconds=3)
    with pytest.raises(HttpResponseError, match="RequiresSession"):
        admin.update_subscription(topic, changed, requires_session=False)
    names = [found.name for found in admin.list_subscriptions(topic, max_page_size=2)]
    assert names == ["a", "b", "c"]
    assert admin.get_topic_runtime_properties(topic).subscription_count == 3
    admin.delete_subscription(topic, "a")
    with pytest.raises(ResourceNotFoundError):
        admin.get_subscription(topic, "a")
    with pytest.raises(ResourceNotFoundError):
        admin.delete_subscription(topic, "a")
    admin.delete_topic(topic)
    with pytest.raises(ResourceNotFoundError):
        admin.get_subscription(topic, "b")


def test_defaults_are_those_of_the_service(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("s")
    sub, made = admin.get_subscription(topic, "s"), admin.get_topic(topic)
    assert (sub.lock_duration, sub.max_delivery_count) == (timedelta(minutes=1), 10)
    assert (sub.requires_session, sub.dead_lettering_on_message_expiration) == (False, False)
    assert sub.dead_lettering_on_filter_evaluation_exceptions is True
    assert (sub.forward_to, sub.forward_dead_lettered_messages_to) == (None, None)
    assert isinstance(sub.auto_delete_on_idle, timedelta)
    assert sub.auto_delete_on_idle > FOREVER
    assert (made.max_size_in_megabytes, made.requires_duplicate_detection) == (1_024, False)
    assert made.duplicate_detection_history_time_window == timedelta(minutes=10)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("-bad", {}),
        ("a b", {}),
        ("a/b", {}),
        ("$Default", {}),
        ("x" * 51, {}),
        ("long-lock", {"lock_duration": timedelta(minutes=6)}),
        ("no-deliveries", {"max_delivery_count": 0}),
        ("hasty", {"auto_delete_on_idle": timedelta(minutes=4)}),
        ("lost", {"forward_to": "nowhere"}),
        ("lost-dead", {"forward_dead_lettered_messages_to": "nowhere"}),
        ("odd-state", {"status": "SendDisabled"}),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(
    broker: Broker, admin: ServiceBusAdministrationClient, name: str, settings: dict[str, Any]
) -> None:
    topic = broker.topic()
    with pytest.raises(HttpResponseError):
        admin.create_subscription(topic, name, **settings)
    assert list(admin.list_subscriptions(topic)) == []


def test_what_has_no_topic_is_not_found(admin: ServiceBusAdministrationClient) -> None:
    for ask in (
        lambda: admin.create_subscription("no-topic", "s"),
        lambda: admin.get_subscription("no-topic", "s"),
        lambda: list(admin.list_subscriptions("no-topic")),
        lambda: admin.create_rule("no-topic", "s", "r"),
        lambda: list(admin.list_rules("no-topic", "s")),
        lambda: admin.create_subscription("billing-events", "s"),
    ):
        with pytest.raises(ResourceNotFoundError):
            ask()


def test_rules_keep_their_types_and_values(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    topic, when = broker.topic("s"), datetime(2020, 7, 5, 11, 12, 13)  # noqa: DTZ001 — as the client gives it back
    properties: dict[str, Any] = {
        "text": "<str>",
        "whole": 2,
        "long": 2**31 + 3,
        "flag": False,
        "real": 1.5,
        "when": when,
        "length": timedelta(days=1, hours=2, minutes=3),
    }
    admin.create_rule(
        topic,
        "s",
        "correlated",
        filter=CorrelationRuleFilter(
            correlation_id="c",
            message_id="m",
            to="t",
            reply_to="r",
            label="l",
            session_id="s",
            reply_to_session_id="rs",
            content_type="ct",
            properties=properties,
        ),
        action=SqlRuleAction("SET Priority = @param", parameters={"@param": when}),
    )
    rule = admin.get_rule(topic, "s", "CORRELATED")
    assert isinstance(rule.filter, CorrelationRuleFilter)
    assert (rule.filter.correlation_id, rule.filter.label) == ("c", "l")
    assert (rule.filter.message_id, rule.filter.to, rule.filter.reply_to) == ("m", "t", "r")
    assert (rule.filter.session_id, rule.filter.reply_to_session_id) == ("s", "rs")
    assert rule.filter.content_type == "ct"
    assert dict(rule.filter.properties or {}) == properties
    assert isinstance(rule.action, SqlRuleAction)
    assert rule.action.sql_expression == "SET Priority = @param"
    assert rule.action.parameters == {"@param": when}
    sql = SqlRuleFilter("a = @one AND b < @two", parameters={"@one": "x", "@two": 1})
    admin.create_rule(topic, "s", "sql", filter=sql)
    rule = admin.get_rule(topic, "s", "sql")
    assert isinstance(rule.filter, SqlRuleFilter)
    assert rule.filter.sql_expression == "a = @one AND b < @two"
    assert rule.filter.parameters == {"@one": "x", "@two": 1}
    assert rule.action is None
    assert rule.created_at_utc is not None
    admin.create_rule(topic, "s", "no", filter=FalseRuleFilter())
    assert isinstance(admin.get_rule(topic, "s", "no").filter, FalseRuleFilter)


def test_rules_are_listed_changed_and_deleted(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("s")
    [default] = admin.list_rules(topic, "s")
    assert (default.name, type(default.filter)) == ("$Default", TrueRuleFilter)
    for name in ("r2", "r1"):
        admin.create_rule(topic, "s", name, filter=SqlRuleFilter("a = 1"))
    with pytest.raises(ResourceExistsError):
        admin.create_rule(topic, "s", "R1")
    assert [rule.name for rule in admin.list_rules(topic, "s")] == ["$Default", "r1", "r2"]
    rule = admin.get_rule(topic, "s", "r1")
    admin.update_rule(
        topic,
        "s",
        rule,
        filter=CorrelationRuleFilter(label="new"),
        action=SqlRuleAction("SET a = 2"),
    )
    changed = admin.get_rule(topic, "s", "r1")
    assert isinstance(changed.filter, CorrelationRuleFilter)
    assert (changed.filter.label, changed.created_at_utc) == ("new", rule.created_at_utc)
    admin.delete_rule(topic, "s", "r1")
    with pytest.raises(ResourceNotFoundError):
        admin.get_rule(topic, "s", "r1")
    with pytest.raises(ResourceNotFoundError):
        admin.delete_rule(topic, "s", "r1")
    with pytest.raises(HttpResponseError):
        admin.update_rule(topic, "s", rule)
    admin.delete_rule(topic, "s", "$Default")
    admin.create_rule(topic, "s", "$Default", filter=SqlRuleFilter("1=1"))
    for wrong in ("a ==", "x" * 1_100, ""):
        with pytest.raises(HttpResponseError):
            admin.create_rule(topic, "s", "wrong", filter=SqlRuleFilter(wrong))
    with pytest.raises(HttpResponseError, match="SQL expression"):
        admin.create_rule(topic, "s", "wrong", action=SqlRuleAction("DROP a"))
    with pytest.raises(HttpResponseError):
        admin.create_rule(topic, "s", "a b")
    assert [rule.name for rule in admin.list_rules(topic, "s")] == ["$Default", "r2"]


def test_partitions_and_express_are_shown_as_the_service_shows_them(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    name = broker.name()
    made = admin.create_queue(
        name, enable_partitioning=True, enable_express=True, max_size_in_megabytes=3072
    )
    assert (made.enable_partitioning, made.enable_express) == (True, True)
    assert made.max_size_in_megabytes == 16 * 3072
    admin.update_queue(made, max_delivery_count=3)
    assert admin.get_queue(name).max_size_in_megabytes == 16 * 3072
    with pytest.raises(HttpResponseError, match="EnablePartitioning"):
        admin.update_queue(made, enable_partitioning=False)
    with pytest.raises(HttpResponseError, match="cannot be enabled together"):
        admin.create_queue(
            broker.name(), enable_express=True, requires_duplicate_detection=True
        )
    with pytest.raises(HttpResponseError):
        admin.create_queue(broker.name(), enable_partitioning=True, max_size_in_megabytes=6_144)
    topic = admin.create_topic(broker.name(), enable_partitioning=True)
    assert topic.support_ordering is False


def test_forwarding_and_idleness_are_shown_and_checked(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    target, name = broker.queue(), broker.name()
    made = admin.create_queue(
        name,
        forward_to=target,
        forward_dead_lettered_messages_to=target,
        auto_delete_on_idle="PT5M",
    )
    for shown in (made, admin.get_queue(name)):
        assert (shown.forward_to or "").endswith(f"/{target}")
        assert (shown.forward_dead_lettered_messages_to or "").endswith(f"/{target}")
        assert shown.auto_delete_on_idle == timedelta(minutes=5)
    admin.update_queue(made, forward_to=None, forward_dead_lettered_messages_to=None)
    assert admin.get_queue(name).forward_to is None
    for wrong in (name, "nowhere", f"{target}/$DeadLetterQueue"):
        with pytest.raises(HttpResponseError):
            admin.update_queue(admin.get_queue(name), forward_to=wrong)
    with pytest.raises(HttpResponseError, match="AutoDeleteOnIdle"):
        admin.create_queue(broker.name(), auto_delete_on_idle=timedelta(minutes=4, seconds=59))


def a_rule(name: str, *rights: AccessRights, key: str = "cHJpbWFyeQ==") -> AuthorizationRule:
    return AuthorizationRule(
        type="SharedAccessAuthorizationRule",
        claim_type="SharedAccessKey",
        claim_value="None",
        rights=list(rights),
        key_name=name,
        primary_key=key,
        secondary_key="c2Vjb25kYXJ5",
    )


def test_authorization_rules_are_kept_and_checked(
    broker: Broker, admin: ServiceBusAdministrationClient
) -> None:
    rules = [a_rule("reader", AccessRights.LISTEN), a_rule("writer", AccessRights.SEND)]
    queue = admin.create_queue(broker.name(), authorization_rules=rules)
    kept = admin.get_queue(queue.name).authorization_rules or []
    assert [(rule.key_name, rule.rights) for rule in kept] == [
        ("reader", [AccessRights.LISTEN]),
        ("writer", [AccessRights.SEND]),
    ]
    assert (kept[0].primary_key, kept[0].secondary_key) == ("cHJpbWFyeQ==", "c2Vjb25kYXJ5")
    assert kept[0].type == "SharedAccessAuthorizationRule"
    admin.update_queue(queue, authorization_rules=kept[:1])
    [left] = admin.get_queue(queue.name).authorization_rules or []
    assert (left.key_name, left.created_at_utc) == ("reader", kept[0].created_at_utc)
    manage = a_rule("m", AccessRights.MANAGE)
    for wrong in ([manage], [rules[0], rules[0]], [a_rule("none")], rules[:1] * 13):
        with pytest.raises(HttpResponseError):
            admin.create_queue(broker.name(), authorization_rules=wrong)


def test_counts_of_a_subscription(
    broker: Broker, links: Links, admin: ServiceBusAdministrationClient
) -> None:
    topic = broker.topic("s", "other")
    sender, receiver = links.topic(topic), links.subscription(topic, "s")
    sender.send_messages([ServiceBusMessage(str(n)) for n in range(3)])
    later = datetime.now(UTC) + timedelta(hours=1)
    sender.schedule_messages(ServiceBusMessage("later"), later)
    [dead] = receiver.receive_messages(1, max_wait_time=5)
    receiver.dead_letter_message(dead)
    sub = admin.get_subscription_runtime_properties(topic, "s")
    assert (sub.active_message_count, sub.dead_letter_message_count) == (2, 1)
    assert (sub.total_message_count, sub.transfer_dead_letter_message_count) == (3, 0)
    assert sub.accessed_at_utc is not None
    shown = admin.get_topic_runtime_properties(topic)
    assert (shown.scheduled_message_count, shown.subscription_count) == (1, 2)
    assert (shown.size_in_bytes or 0) > 0
    listed = {s.name: s for s in admin.list_subscriptions_runtime_properties(topic)}
    assert listed["other"].active_message_count == 3
    assert topic in [t.name for t in admin.list_topics_runtime_properties()]


async def test_the_asynchronous_client_administers_topics_too(broker: Broker) -> None:
    client = AioAdministrationClient.from_connection_string(
        broker.admin_string, transport=AioPlainHttp(), retry_total=0
    )
    name = broker.name()
    async with client as admin:
        await admin.create_topic(name)
        made = await admin.create_subscription(name, "s")
        await admin.update_subscription(name, made, max_delivery_count=5)
        assert (await admin.get_subscription(name, "s")).max_delivery_count == 5
        await admin.create_rule(name, "s", "r", filter=SqlRuleFilter("a = 1"))
        rules = [rule.name async for rule in admin.list_rules(name, "s")]
        assert rules == ["$Default", "r"]
        assert [s.name async for s in admin.list_subscriptions(name)] == ["s"]
        await admin.delete_topic(name)
        with pytest.raises(ResourceNotFoundError):
            await admin.get_topic(name)
