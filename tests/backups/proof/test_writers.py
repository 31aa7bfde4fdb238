"""Writers at work while the command reads: every snapshot keeps what the writers keep.

Each transaction moves an amount between accounts in two tables and writes a line for it, so that
in any snapshot the amounts sum to nothing and the lines explain every balance.
"""

from __future__ import annotations

import threading
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tests.backups.histories.compare import contents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backups.proof.place import Place

pytestmark = pytest.mark.stack

ACCOUNTS = 4000
_NUMBERS = f"generate_series(1, {ACCOUNTS})"
# Wide rows, so that the tables have many segments and two connections read them.
_SCHEMA = (
    "CREATE TABLE giving (id int PRIMARY KEY, balance bigint NOT NULL, pad text)",
    "CREATE TABLE taking (id int PRIMARY KEY, balance bigint NOT NULL, pad text)",
    "CREATE TABLE line (id bigserial PRIMARY KEY, giver int, taker int, amount bigint)",
    *(
        f"INSERT INTO {name} SELECT n, 0, repeat(md5(n::text), 40) FROM {_NUMBERS} n"  # noqa: S608
        for name in ("giving", "taking")
    ),
    "ALTER TABLE giving ALTER pad SET STORAGE PLAIN",
)
_TOTALS = """
WITH given AS (SELECT giver AS id, sum(amount) AS amount FROM line GROUP BY giver),
    taken AS (SELECT taker AS id, sum(amount) AS amount FROM line GROUP BY taker)
SELECT (SELECT sum(balance) FROM giving) + (SELECT sum(balance) FROM taking),
    (SELECT count(*) FROM giving LEFT JOIN given USING (id) WHERE balance <> -coalesce(amount, 0)),
    (SELECT count(*) FROM taking LEFT JOIN taken USING (id) WHERE balance <> coalesce(amount, 0)),
    (SELECT count(*) FROM giving), (SELECT count(*) FROM taking)
"""


class Writer(threading.Thread):
    """Moves amounts until told to stop; savepoints, rollbacks and vacuums among them."""

    def __init__(self, place: Place, seed: int) -> None:
        super().__init__(daemon=True)
        self._random = Random(seed)  # noqa: S311 - a test's dice
        self._dsn = place.cluster.dsn(place.database)
        self.ended = threading.Event()
        self.moves = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with closing(psycopg2.connect(self._dsn)) as connection:
                while not self.ended.is_set():
                    self._move(connection)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failure = error

    def _move(self, connection: Any) -> None:
        random = self._random
        giver, taker = random.randint(1, ACCOUNTS), random.randint(1, ACCOUNTS)
        amount = random.randint(1, 100)
        with connection.cursor() as cursor:
            if random.random() < 0.02:
                connection.rollback()
                connection.autocommit = True
                cursor.execute(random.choice(["VACUUM giving", "VACUUM (FREEZE) taking"]))
                connection.autocommit = False
            cursor.execute(
                "UPDATE giving SET balance = balance - %s WHERE id = %s", (amount, giver)
            )
            if random.random() < 0.3:
                cursor.execute("SAVEPOINT s")
                cursor.execute(
                    "UPDATE taking SET balance = balance + 1000 WHERE id = %s", (taker,)
                )
                cursor.execute("ROLLBACK TO s")
            cursor.execute(
                "UPDATE taking SET balance = balance + %s WHERE id = %s", (amount, taker)
            )
            cursor.execute(
                "INSERT INTO line (giver, taker, amount) VALUES (%s, %s, %s)",
                (giver, taker, amount),
            )
        if random.random() < 0.1:
            connection.rollback()
        else:
            connection.commit()
            self.moves += 1


@pytest.fixture
def writers(place: Place) -> Iterator[list[Writer]]:
    place.cluster.sql(place.database, *_SCHEMA)
    made = [Writer(place, seed) for seed in range(3)]
    for writer in made:
        writer.start()
    yield made
    for writer in made:
        writer.ended.set()
    for writer in made:
        writer.join()


def hold(place: Place, writers: list[Writer], days: int) -> None:
    """Back up day by day, restore each, and look at the sums."""
    for _ in range(days):
        answer = place.back_up()
        assert answer.exit == 0, answer.said
        assert answer.shown["tables"]["public.giving"] == ACCOUNTS
        target = f"{place.database}_back"
        dsn = place.cluster.create(target)
        try:
            back = place.call("restore", "--dsn", dsn)
            assert back.exit == 0, back.said
            ((total, givers, takers, giving, taking),) = place.cluster.sql(target, _TOTALS)
            assert (total, givers, takers) == (0, 0, 0)
            assert (giving, taking) == (ACCOUNTS, ACCOUNTS)
        finally:
            place.cluster.drop(target)
    for writer in writers:
        assert writer.failure is None
        assert writer.moves > 0


def test_a_snapshot_taken_among_writers_is_one_moment(
    place: Place, writers: list[Writer]
) -> None:
    hold(place, writers, 6)
    for writer in writers:
        writer.ended.set()
        writer.join()
    assert place.back_up().exit == 0
    answer, state = place.restored("latest")
    assert answer.exit == 0
    assert state is not None
    assert state.database == contents(place.cluster.dsn(place.database))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_hundreds_of_snapshots_among_writers_are_one_moment_each(
    place: Place, writers: list[Writer]
) -> None:
    hold(place, writers, 300)
