"""Rows are written whole or not at all, and only over the version that was read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from spaces.adapters.tables import AzureTables
from spaces.errors import ConflictError, InvalidError, LostRaceError
from spaces.ports import Delete, Insert, Put, Replace, Tables
from tests.fakes import FakeTables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spaces.adapters.wire import Wire
    from spaces.ports import Scalar, Stored
    from tests.conformance.parts import Parts


@pytest.fixture(params=["fake", pytest.param("azurite", marks=pytest.mark.stack)])
async def tables(request: pytest.FixtureRequest, wire: Wire) -> AsyncIterator[Tables]:
    if request.param == "fake":
        yield FakeTables()
        return
    account = await asyncio.to_thread(_account, request.getfixturevalue("parts"))
    adapter = AzureTables(wire, connection=account)
    yield adapter
    await adapter.close()


def _account(parts: Parts) -> str:
    return parts.account("conformance").connection_string


async def test_a_row_comes_back_as_it_was_written(tables: Tables, unique: str) -> None:
    values: dict[str, Scalar] = {
        "text": 'Zoë \U0001f30d it\'s "quoted"\n',
        "empty": "",
        "small": 7,
        "negative": -1,
        "large": 2**53 + 1,
        "most": 2**63 - 1,
        "whole": 3.0,
        "fraction": 0.1,
        "tiny": 5e-324,
        "yes": True,
        "no": False,
        "at": datetime(2026, 11, 23, 10, 0, 0, 123456, tzinfo=UTC),
        "old": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        "raw": bytes(range(256)),
    }
    await tables.commit(unique, "p", [Insert("r", values)])
    row = await _one(tables, unique)
    assert dict(row.values) == values
    assert {name: type(value) for name, value in row.values.items()} == {
        name: type(value) for name, value in values.items()
    }


async def test_a_time_comes_back_in_utc_and_can_be_written_again(
    tables: Tables, unique: str
) -> None:
    noon = datetime(2026, 7, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    await tables.commit(unique, "p", [Insert("r", {"at": noon})])
    row = await _one(tables, unique)
    assert row.values["at"] == noon
    at = row.values["at"]
    assert isinstance(at, datetime)
    assert at.tzinfo is UTC
    later = at + timedelta(hours=1)
    await tables.commit(unique, "p", [Replace("r", {"at": later}, row.etag)])
    assert (await _one(tables, unique)).values["at"] == later


async def test_a_missing_row_and_a_missing_table_read_as_nothing(
    tables: Tables, unique: str
) -> None:
    assert await tables.get(unique, "p", "r") is None
    assert await tables.query(unique, partition="p") == []
    assert await tables.query(unique) == []
    await tables.commit(unique, "p", [Insert("other", {})])
    assert await tables.get(unique, "p", "r") is None
    assert await tables.get(unique, "other", "other") is None


async def test_a_table_is_made_by_the_first_write_of_any_kind(
    tables: Tables, unique: str
) -> None:
    await tables.commit(f"{unique}a", "p", [Insert("r", {"n": 1})])
    await tables.commit(f"{unique}b", "p", [Insert("r", {"n": 1}), Put("s", {"n": 2})])
    await tables.commit(f"{unique}c", "p", [Delete("r")])
    with pytest.raises(LostRaceError):
        await tables.commit(f"{unique}d", "p", [Replace("r", {}, 'W/"1"')])
    with pytest.raises(LostRaceError):
        await tables.commit(f"{unique}e", "p", [Insert("s", {}), Replace("r", {}, 'W/"1"')])
    assert await tables.get(f"{unique}e", "p", "s") is None
    assert len(await tables.query(f"{unique}b", partition="p")) == 2


async def test_a_put_without_a_guard_is_refused(tables: Tables, unique: str) -> None:
    for writes in ([Put("r", {})], [Put("r", {}), Put("s", {})], [Put("r", {}), Delete("s")]):
        with pytest.raises(ValueError, match="guards"):
            await tables.commit(unique, "p", writes)
    assert await tables.query(unique) == []


async def test_an_insert_over_a_row_refuses_the_whole_transaction(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert("taken", {"n": 1})])
    with pytest.raises(ConflictError):
        await tables.commit(unique, "p", [Insert("taken", {"n": 2})])
    with pytest.raises(ConflictError):
        await tables.commit(unique, "p", [Insert("new", {}), Insert("taken", {"n": 2})])
    assert await tables.get(unique, "p", "new") is None
    taken = await tables.get(unique, "p", "taken")
    assert taken is not None
    assert taken.values == {"n": 1}


async def test_a_stale_etag_leaves_every_row_as_it_was(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "p", [Insert("r", {"n": 1}), Insert("s", {"n": 1})])
    stale = (await _one(tables, unique)).etag
    await tables.commit(unique, "p", [Replace("r", {"n": 2}, stale)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Replace("r", {"n": 3}, stale)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Put("s", {"n": 3}), Replace("r", {"n": 3}, stale)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Delete("r", stale)])
    assert [(row.key, row.values["n"]) for row in await tables.query(unique)] == [
        ("r", 2),
        ("s", 1),
    ]


async def test_a_replace_takes_all_old_values_away(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "p", [Insert("r", {"old": 1, "kept": 1})])
    row = await _one(tables, unique)
    await tables.commit(unique, "p", [Replace("r", {"kept": 2}, row.etag)])
    row = await _one(tables, unique)
    assert row.values == {"kept": 2}
    await tables.commit(unique, "p", [Put("r", {"other": 3}), Insert("s", {})])
    assert (await _one(tables, unique)).values == {"other": 3}


async def test_every_version_has_an_etag_of_its_own(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "p", [Insert("r", {"n": 1})])
    first = await _one(tables, unique)
    await tables.commit(unique, "p", [Replace("r", {"n": 1}, first.etag)])
    second = await _one(tables, unique)
    assert first.etag != second.etag
    assert (await tables.query(unique))[0].etag == second.etag


async def test_only_one_of_two_racing_writers_wins(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "p", [Insert("r", {"n": 0})])
    row = await _one(tables, unique)

    async def write(n: int) -> bool:
        try:
            await tables.commit(
                unique, "p", [Replace("r", {"n": n}, row.etag), Insert(f"in-{n}", {})]
            )
        except LostRaceError:
            return False
        return True

    assert sum(await asyncio.gather(*(write(n) for n in range(4)))) == 1
    assert len(await tables.query(unique, key_from="in-", key_below="in.")) == 1


async def test_a_replace_of_a_row_that_is_gone_is_a_lost_race(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert("r", {})])
    etag = (await _one(tables, unique)).etag
    await tables.commit(unique, "p", [Delete("r", etag)])
    assert await tables.get(unique, "p", "r") is None
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Replace("r", {}, etag)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Insert("s", {}), Replace("r", {}, etag)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Delete("r", etag)])
    with pytest.raises(LostRaceError):
        await tables.commit(unique, "p", [Insert("s", {}), Delete("r", etag)])
    assert await tables.query(unique) == []


async def test_an_unguarded_delete_of_a_missing_row_counts_as_done(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert("here", {})])
    await tables.commit(unique, "p", [Delete("gone")])
    await tables.commit(
        unique, "p", [Delete("gone"), Insert("new", {}), Delete("lost"), Delete("here")]
    )
    assert [row.key for row in await tables.query(unique)] == ["new"]


async def test_a_transaction_of_nothing_but_missing_deletes_is_done(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert("here", {})])
    await tables.commit(unique, "p", [Delete("gone"), Delete("lost")])
    assert [row.key for row in await tables.query(unique)] == ["here"]


async def test_a_transaction_may_mix_every_kind_of_write(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "p", [Insert("a", {}), Insert("b", {}), Insert("c", {"n": 1})])
    etags = {row.key: row.etag for row in await tables.query(unique)}
    await tables.commit(
        unique,
        "p",
        [
            Replace("a", {"n": 2}, etags["a"]),
            Delete("b", etags["b"]),
            Put("c", {"n": 3}),
            Insert("d", {"n": 4}),
        ],
    )
    assert [(row.key, row.values.get("n")) for row in await tables.query(unique)] == [
        ("a", 2),
        ("c", 3),
        ("d", 4),
    ]


async def test_a_hundred_rows_are_one_transaction_and_one_more_is_refused(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert(f"{n:03}", {"n": n}) for n in range(100)])
    assert len(await tables.query(unique, partition="p")) == 100
    with pytest.raises(ValueError, match="1 to 100"):
        await tables.commit(unique, "q", [Insert(f"{n:03}", {}) for n in range(101)])
    with pytest.raises(ValueError, match="1 to 100"):
        await tables.commit(unique, "q", [])
    with pytest.raises(ValueError, match="each key once"):
        await tables.commit(unique, "q", [Insert("r", {}), Delete("r")])
    assert await tables.query(unique, partition="q") == []


async def test_a_range_is_read_in_key_order_without_its_upper_end(
    tables: Tables, unique: str
) -> None:
    keys = ["aud!000000000009", "aud!000000000010", "in!x", "out!next", "state", "state_audit"]
    for partition in ("p", "q"):
        await tables.commit(unique, partition, [Insert(key, {}) for key in reversed(keys)])
    rows = await tables.query(unique, partition="p", key_from="aud!", key_below="aud\x22")
    assert [row.key for row in rows] == keys[:2]
    rows = await tables.query(unique, partition="p", key_from="state", key_below="statf")
    assert [row.key for row in rows] == ["state", "state_audit"]
    assert [row.key for row in await tables.query(unique, partition="p")] == keys
    assert [
        (row.partition, row.key) for row in await tables.query(unique, key_from="state")
    ] == [
        ("p", "state"),
        ("p", "state_audit"),
        ("q", "state"),
        ("q", "state_audit"),
    ]
    assert [row.key for row in await tables.query(unique, partition="q", limit=3)] == keys[:3]
    assert await tables.query(unique, partition="q", limit=0) == []


async def test_a_quote_in_a_key_is_a_letter_like_any_other(tables: Tables, unique: str) -> None:
    await tables.commit(unique, "o'neil", [Insert("it's", {"n": 1})])
    row = await tables.get(unique, "o'neil", "it's")
    assert row is not None
    await tables.commit(unique, "o'neil", [Replace("it's", {"n": 2}, row.etag)])
    rows = await tables.query(unique, partition="o'neil", key_from="it's")
    assert [row.values["n"] for row in rows] == [2]
    assert await tables.query(unique, partition="p' or PartitionKey ne '") == []


@pytest.mark.parametrize("key", ["a/b", "a\\b", "a#b", "a?b", "a\tb", "k" * 600])
async def test_a_key_that_the_service_forbids_is_invalid(
    tables: Tables, unique: str, key: str
) -> None:
    with pytest.raises(InvalidError):
        await tables.commit(unique, "p", [Insert(key, {}), Insert("fine", {})])
    assert await tables.query(unique, partition="p") == []


async def test_a_value_larger_than_the_service_takes_is_invalid(
    tables: Tables, unique: str
) -> None:
    await tables.commit(unique, "p", [Insert("fits", {"text": "x" * 32 * 1024})])
    with pytest.raises(InvalidError):
        await tables.commit(unique, "p", [Insert("r", {"text": "x" * (32 * 1024 + 1)})])
    with pytest.raises(ValueError, match="aware"):
        await tables.commit(unique, "p", [Insert("r", {"at": datetime(2026, 1, 1)})])  # noqa: DTZ001 — on purpose
    with pytest.raises(TypeError):
        await tables.commit(unique, "p", [Insert("r", {"n": 2**63})])


async def _one(tables: Tables, table: str) -> Stored:
    row = await tables.get(table, "p", "r")
    assert row is not None
    return row
