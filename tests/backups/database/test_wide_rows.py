"""Rows of a few bytes, and rows that are too wide to be held: the same text, in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from backups.database import chains, reading, segments
from backups.database.model import CHAIN_LIMIT
from spaces.errors import DamagedError
from tests.backups.histories.compare import contents

if TYPE_CHECKING:
    from tests.backups.histories.cluster import Cluster
    from tests.backups.histories.vault import Vault

pytestmark = pytest.mark.stack

# Backslashes, tabs and line ends are what COPY escapes; 4099 bytes end no slice at a boundary.
ODD = r"repeat(E'a\\b\tc\nd\re\bf\fg\vh\x01 é', 200)"


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of 3 KiB is a wide one, a slice is 4099 bytes, a frame 16 KiB."""
    monkeypatch.setattr(reading, "WIDE_BYTES", 3000)
    monkeypatch.setattr(reading, "_SLICE_BYTES", 4099)
    monkeypatch.setattr(reading, "_LITTLE_TOAST", 0)
    monkeypatch.setattr(chains, "FRAME_BYTES", 16 << 10)
    monkeypatch.setattr(chains, "LARGEST_FRAME", 32 << 10)


@pytest.mark.usefixtures("_narrow")
def test_a_wide_row_is_the_line_that_copy_writes(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(
        database,
        "CREATE TABLE t (id int, a text, b bytea, c jsonb, d text[], e char(9), f int, g bytea)",
        f"""INSERT INTO t SELECT g, {ODD} || g, decode(repeat('00ff5c0a', 5000), 'hex'),
            jsonb_build_object('k', {ODD}, 'n', g), ARRAY[{ODD}, NULL, ''], 'x ', NULL, ''
            FROM generate_series(1, 40) g""",  # noqa: S608 - a test
        "INSERT INTO t SELECT g, 'short' FROM generate_series(41, 300) g",
        "INSERT INTO t (d) VALUES (array_fill(NULL::text, ARRAY[4000]))",
        "INSERT INTO t (id, b) SELECT g, decode(repeat('ab', 1600), 'hex')"
        " FROM generate_series(1, 9) g",
    )
    whole: list[Any] = []
    part = vault.capture(
        cluster.dsn(database), opened=lambda s: whole.append(contents(cluster.dsn(database), s))
    )
    expected = b"".join(whole[0].rows["public.t"])
    texts = chains.Texts(vault.reader(), vault.keys.digest_key)
    frames = [frame for segment in part.tables[0].segments for frame in segment.frames]
    assert len(frames) > 40
    assert b"".join(texts.plain(frame, affects="t") for frame in frames) == expected
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).rows == whole[0].rows


def test_bytes_kept_out_of_line_count_for_a_segment(
    cluster: Cluster, vault: Vault, database: str
) -> None:
    """104 KiB of heap can hold 256 MB out of line; here a dozen blocks hold 24 MiB."""
    cluster.sql(
        database,
        "CREATE TABLE t (id int, v text, pad char(400) DEFAULT '')",
        "ALTER TABLE t ALTER v SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, repeat(md5(g::text), 4000) FROM generate_series(1, 200) g",
        "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) g",
    )
    part = vault.capture(cluster.dsn(database))
    sizes = [segment.size for segment in part.tables[0].segments]
    assert len(sizes) >= 5
    assert max(sizes) <= 3 * segments.SEGMENT_BYTES
    cluster.sql(database, "UPDATE t SET id = 0 WHERE id = 100 AND v <> 'x'")
    assert vault.capture(cluster.dsn(database)).bytes_read < part.bytes_read // 2


@pytest.mark.usefixtures("_narrow")
def test_a_wide_row_is_not_stored_again_for_its_neighbour(
    cluster: Cluster, vault: Vault, database: str
) -> None:
    cluster.sql(
        database,
        "CREATE TABLE t WITH (fillfactor = 50) AS SELECT g AS id, ''::text AS v"
        " FROM generate_series(1, 9) g",
        "UPDATE t SET v = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 9000) g)"
        " WHERE id = 5",
    )
    vault.capture(cluster.dsn(database))
    first = vault.stored[-1]
    cluster.sql(database, "UPDATE t SET v = 'changed' WHERE id = 1")
    vault.capture(cluster.dsn(database))
    assert vault.stored[-1] < first // 20


def test_chains_are_bounded_end_on_different_days_and_stay_small(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(
        database,
        "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v, 0 AS n FROM generate_series(1, 60000) g",
    )
    depths: list[list[int]] = []
    for day in range(18):
        part = vault.capture(cluster.dsn(database))
        depths.append(
            [len(f.chain) for table in part.tables for s in table.segments for f in s.frames]
        )
        changed = f"UPDATE t SET n = {day} WHERE id % 100 = {day}"  # noqa: S608 - a test
        cluster.sql(database, changed, "VACUUM t")
    assert max(max(one) for one in depths) == CHAIN_LIMIT
    whole = [sum(depth == 1 for depth in one) for one in depths[1:]]
    assert max(whole) < len(depths[-1])  # no day stores all segments whole
    assert sum(whole) > 0
    assert sum(vault.stored[1:]) / 17 < vault.stored[0] / 3
    vault.restore(cluster.dsn(target))
    part = vault.capture(cluster.dsn(database))
    cluster.drop(target)
    cluster.create(target)
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).rows == contents(cluster.dsn(database)).rows


HUGE = """
import resource, sys
from pathlib import Path
from tests.backups.histories.vault import Vault
from backups.database.restore import restore
source, target, store, programs = sys.argv[1:]
vault = Vault(Path(store), pg_bin=Path(programs))
part = vault.capture(source)
vault.restore(target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_row_of_500_megabytes_takes_no_more_memory_than_others(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(
        database,
        "CREATE TABLE t (id int, v text, b bytea)",
        "INSERT INTO t SELECT 1, repeat('0123456789', 52428800), NULL",
        "INSERT INTO t SELECT 2, NULL, convert_to(repeat('0123456789abcdef', 16777216), 'UTF8')",
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            HUGE,
            cluster.dsn(database),
            cluster.dsn(target),
            str(vault.root),
            str(cluster.programs),
        ],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert int(done.stdout.split()[-1]) < 160
    told = "SELECT id, md5(v), md5(b) FROM t ORDER BY id"
    assert cluster.sql(target, told) == cluster.sql(database, told)


def test_a_delta_against_another_base_is_damage(
    cluster: Cluster, vault: Vault, database: str
) -> None:
    """Zstd decodes it without an error, to other bytes: only the digest tells."""
    cluster.sql(
        database,
        "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 60000) g",
    )
    vault.capture(cluster.dsn(database))
    cluster.sql(database, "UPDATE t SET v = 'new' WHERE id % 5000 = 0")
    part = vault.capture(cluster.dsn(database))
    texts = chains.Texts(vault.reader(), vault.keys.digest_key)
    frames = [f for s in part.tables[0].segments for f in s.frames if len(f.chain) == 2]
    one, other = frames[:2]
    assert texts.plain(one, affects="t")
    moved = msgspec.structs.replace(one, chain=[other.chain[0], one.chain[1]])
    with pytest.raises(DamagedError, match="affected: t"):
        texts.plain(moved, affects="t")
    cut = msgspec.structs.replace(one, chain=one.chain[:1])
    with pytest.raises(DamagedError, match="not those of its digest"):
        texts.plain(cut, affects="t")
