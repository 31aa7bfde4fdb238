"""The daily review: what it writes, what it tells, and that it does so once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from geo_router import reviews, tables
from spaces import audit
from spaces.errors import TransientError
from spaces.model import Status
from spaces.ports import Insert
from spaces.registry import DIRECTORY, NO_MESSAGE, Change, Registry
from tests.builders import a_billing_state, a_space
from tests.fakes import fake_ports

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports

RULES = tables.load()
NEXT_EDITION = replace(RULES, version="2026.12.01-1", hash="sha256:" + "ab" * 32)


@pytest.fixture
def ports() -> Ports:
    return fake_ports()


async def opened(ports: Ports, name: str, cluster: str = "france", **over: object) -> Space:
    """A space in the registry, as an order leaves it; its request is from Germany by default."""
    request = over.pop("request", {"country": "DE"})
    given = {"space_id": f"s-{name}", "name": name, "cluster": cluster, **over}
    space = a_space(route_request=json.dumps(request), **given)
    entry = audit.Entry(act="space.requested", actor="test", obj=space.space_id, detail={})
    await Registry(ports.tables).create(
        Change(space=space, entry=entry, next=NO_MESSAGE), now=ports.clock.now()
    )
    await ports.tables.commit(DIRECTORY, cluster, [Insert(space.space_id, {"name": name})])
    return space


def told(ports: Ports) -> list[dict]:
    """The events on the queue, without those of other rooms."""
    sent = [json.loads(message.body) for message in ports.bus.sent]  # pyright: ignore[reportAttributeAccessIssue]
    return [event for event in sent if event["type"] == reviews.EVENT]


async def audited(ports: Ports, space_id: str) -> list[str]:
    entries = await Registry(ports.tables).audit_entries(space_id)
    return [json.loads(entry)["act"] for entry in entries]


def next_day(ports: Ports) -> None:
    ports.clock.advance(24 * 3600)  # pyright: ignore[reportAttributeAccessIssue]


async def test_each_space_gets_its_standing_and_only_news_is_written(ports: Ports) -> None:
    await opened(ports, "same")
    await opened(ports, "better", "uk")
    await opened(ports, "expired", "united-states")
    await opened(ports, "never", "india")
    await opened(ports, "ordered", "india", status=Status.REQUESTED)
    await opened(ports, "erased", "india", status=Status.ERASED)
    assert await reviews.run(ports) == {
        "same": 1,
        "still-allowed": 1,
        "condition-expired": 1,
        "not-allowed": 1,
        "not-reviewed": 2,
    }
    found = (await reviews.listed(ports)).items
    assert [(one.name, one.standing, one.today) for one in found] == [
        ("expired", "condition-expired", "france"),
        ("never", "not-allowed", "france"),
        ("better", "still-allowed", "france"),
    ]
    assert found[0].data_hash == RULES.hash
    assert await audited(ports, "s-same") == ["space.requested"]
    assert await audited(ports, "s-never") == ["space.requested", "residency.reviewed"]


async def test_a_space_that_may_not_stay_is_told_once_and_never_moved(ports: Ports) -> None:
    space = await opened(ports, "never", "india")
    for _ in range(3):
        await reviews.run(ports)
        next_day(ports)
    (event,) = told(ports)
    assert event["subject"] == "s-never"
    assert event["data"]["standing"] == "not-allowed"
    assert event["data"]["data_version"] == RULES.version
    loaded = await Registry(ports.tables).require("s-never")
    assert replace(loaded.space, event_seq=space.event_seq) == space
    assert (await audited(ports, "s-never")).count("residency.reviewed") == 1


async def test_a_customer_who_moved_is_reviewed_from_there_and_the_space_stays(
    ports: Ports,
) -> None:
    at_home = a_billing_state(country="CA")  # billed from elsewhere, which says nothing
    moved = a_billing_state(country="CA", country_sequence=3)
    await opened(ports, "stays", billing=at_home)
    await opened(ports, "moved", billing=moved)
    await reviews.run(ports)
    found = {one.space_id: one.today for one in (await reviews.listed(ports)).items}
    assert found == {"s-moved": "canada"}
    assert (await Registry(ports.tables).require("s-moved")).space.cluster == "france"


async def test_an_edition_is_reviewed_once_a_day(ports: Ports) -> None:
    await opened(ports, "same")
    assert await reviews.run(ports) is not None
    assert await reviews.run(ports) is None
    assert await reviews.run(ports, NEXT_EDITION) is not None
    assert await reviews.run(ports, NEXT_EDITION) is None
    next_day(ports)
    assert await reviews.run(ports) is not None


async def test_another_edition_tells_again_and_a_lawful_place_closes_the_case(
    ports: Ports,
) -> None:
    await opened(ports, "never", "india")
    await reviews.run(ports)
    await reviews.run(ports, NEXT_EDITION)
    assert [event["data"]["data_hash"] for event in told(ports)] == [
        RULES.hash,
        NEXT_EDITION.hash,
    ]
    registry = Registry(ports.tables)
    loaded = await registry.require("s-never")
    moved = replace(loaded.space, cluster="france")
    entry = audit.Entry(act="moved", actor="test", obj="s-never", detail={})
    await registry.commit(loaded, Change(space=moved, entry=entry), now=ports.clock.now())
    next_day(ports)
    await reviews.run(ports)
    assert (await reviews.listed(ports)).items == []
    assert len(told(ports)) == 2


async def test_a_standing_that_comes_back_under_one_edition_is_listed_and_not_told_again(
    ports: Ports,
) -> None:
    await opened(ports, "never", "india")
    for edition in (RULES, NEXT_EDITION, RULES):
        await reviews.run(ports, edition)
        next_day(ports)
    (found,) = (await reviews.listed(ports)).items
    assert found.data_hash == RULES.hash
    assert len(told(ports)) == 2


async def test_a_run_that_died_before_telling_is_finished_by_the_next(ports: Ports) -> None:
    await opened(ports, "a", "india")
    await opened(ports, "b", "india")
    ports.bus.faults.plan("send", TransientError("gone"))  # pyright: ignore[reportAttributeAccessIssue]
    assert await reviews.run(ports) == {"failed": 1, "not-allowed": 1}
    assert len(told(ports)) == 1
    assert await reviews.run(ports) == {"not-allowed": 2}
    assert sorted(event["subject"] for event in told(ports)) == ["s-a", "s-b"]
    for name in "ab":
        assert (await audited(ports, f"s-{name}")).count("residency.reviewed") == 1


async def test_a_space_that_moves_on_meanwhile_is_looked_at_again(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(ports, "never", "india")
    true_commit, meddled = Registry.commit, []

    async def commit(self: Registry, loaded: object, change: Change, *, now: object) -> object:
        if not meddled:
            meddled.append(1)
            entry = audit.Entry(act="meanwhile", actor="test", obj="s-never", detail={})
            fresh = await self.require("s-never")
            await true_commit(self, fresh, Change(space=fresh.space, entry=entry), now=now)  # pyright: ignore[reportArgumentType]
        return await true_commit(self, loaded, change, now=now)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Registry, "commit", commit)
    await reviews.run(ports)
    assert await audited(ports, "s-never") == [
        "space.requested",
        "meanwhile",
        "residency.reviewed",
    ]
    assert len(told(ports)) == 1


async def test_a_request_or_a_cluster_that_is_no_more_needs_a_person(ports: Ports) -> None:
    await opened(ports, "unreadable", request={"country": "QQ"})
    await opened(ports, "nowhere", "atlantis")
    assert await reviews.run(ports) == {"not-allowed": 2}
    assert len(told(ports)) == 2


async def test_stored_requests_are_those_of_spaces_that_hold_data(ports: Ports) -> None:
    await opened(ports, "here", request={"country": "FR", "sector": "health"})
    await opened(ports, "ordered", status=Status.REQUESTED)
    (found,) = (await reviews.stored(ports)).items
    assert (found.space_id, found.cluster) == ("s-here", "france")
    assert found.request == {"country": "FR", "sector": "health"}
