"""Is it the same database: a copy, a clone, another server process, and a nonce that tells."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from backups.database import continuity
from backups.database.model import Snapshot
from tests.backups.database.stories import FILL, TICK, Story, with_and_without
from tests.backups.histories.cluster import Cluster
from tests.backups.histories.compare import dump
from tests.backups.histories.vault import Vault

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("small_segments")]


def always_continues(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuity, "continues", lambda _now, _held, _before: True)


def without_nonce(patch: pytest.MonkeyPatch) -> None:
    real = continuity.continues

    def careless(now: Any, held: Any, before: Any) -> bool:
        return real(now, held | {before.nonce}, before)

    patch.setattr(continuity, "continues", careless)


def without_database(patch: pytest.MonkeyPatch) -> None:
    real = continuity.look

    def careless(session: Any) -> Any:
        now, held = real(session)
        return _with(now, database=1), held

    patch.setattr(continuity, "look", careless)


def _with(snapshot_: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(snapshot_, **changes)


def test_a_database_made_from_a_template_is_read_anew(
    cluster: Cluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """It has its template's file nodes and its nonce, and rows changed by older transactions.

    The changes come before the source's snapshot, so that their transactions are older than it.
    """
    runs = iter(range(9))

    def told() -> bool:
        source, copy = (f"{database}_{name}{next(runs)}" for name in ("a", "b"))
        vault = Vault(tmp_path / source, pg_bin=cluster.programs)
        cluster.create(source)
        cluster.sql(source, FILL, "VACUUM t")
        vault.capture(cluster.dsn(source))
        cluster.create(copy, f'TEMPLATE "{source}"')
        cluster.sql(copy, "UPDATE t SET n = n + 1, v = 'changed' WHERE id % 10 = 0", "VACUUM t")
        vault.capture(cluster.dsn(source))
        vault.parts[-1] = _nonce_of(vault.parts[0], vault.parts[-1])
        vault.capture(cluster.dsn(copy))
        wrong = Story(cluster, vault, copy).differs()
        for name in (source, copy):
            cluster.drop(name)
        return wrong

    with_and_without(monkeypatch, without_database, told)


def _nonce_of(first: Any, second: Any) -> Any:
    """The worst case: the copy holds the nonce that is looked for."""
    nonce = first.snapshots[0].nonce
    return _with(second, snapshots=[_with(second.snapshots[0], nonce=nonce)])


def test_a_cold_copy_of_the_data_folder_is_read_anew(
    cluster: Cluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same system id, timeline, database and file nodes: only the nonce tells."""

    def told() -> bool:
        number = len(list(cluster.data.parent.iterdir()))
        first = Cluster(cluster.home, f"first{number}").initialised().start()
        second: Cluster | None = None
        vault = Vault(tmp_path / f"store{number}", pg_bin=cluster.programs)
        try:
            first.create("d")
            first.sql("d", FILL, "VACUUM t")
            vault.capture(first.dsn("d"))
            first.stop()
            second = first.copied(f"second{number}")
            first.start()
            second.start()
            # Both go on; the copy's change is by an older transaction than the source's snapshot.
            second.sql("d", "UPDATE t SET v = 'copy' WHERE id % 10 = 0", *[TICK] * 50)
            first.sql("d", *["UPDATE t SET n = n + 1 WHERE id = 7"] * 20, "VACUUM t")
            vault.capture(first.dsn("d"))
            vault.capture(second.dsn("d"))
            return Story(second, vault, "d").differs()
        finally:
            first.delete()
            if second:
                second.delete()

    with_and_without(monkeypatch, without_nonce, told)


def a_snapshot(**changes: Any) -> Any:
    told: dict[str, Any] = {
        "xmin": 5000,
        "system": "s",
        "timeline": "00000001",
        "database": 5,
        "server": "180003 18.3",
        "nonce": "n1",
        "started": "yesterday",
    }
    return Snapshot(**(told | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "t"},
        {"timeline": "00000002"},
        {"timeline": ""},
        {"database": 6},
        {"server": "180004 18.4"},
        {"xmin": 4999},
        {"xmin": 5000 + (1 << 30)},
    ],
)
def test_whatever_identifies_a_database_must_be_the_same(changes: dict[str, Any]) -> None:
    held = frozenset({"n1"})
    assert continuity.continues(a_snapshot(), held, a_snapshot())
    assert continuity.continues(a_snapshot(xmin=4999 + (1 << 30)), held, a_snapshot())
    assert not continuity.continues(a_snapshot(**changes), held, a_snapshot())


def test_the_nonce_decides_and_without_one_the_server_process() -> None:
    now = a_snapshot(started="today")
    assert continuity.continues(now, frozenset({"n1", "n2"}), a_snapshot())
    assert not continuity.continues(now, frozenset({"n2"}), a_snapshot())
    bare = a_snapshot(nonce="")
    assert not continuity.continues(now, frozenset({"n1"}), bare)
    assert continuity.continues(a_snapshot(), frozenset(), bare)
    assert not continuity.continues(a_snapshot(), frozenset(), a_snapshot(nonce="", started=""))


def test_a_role_that_may_not_write_skips_only_while_the_server_runs_on(
    tmp_path: Any, cluster: Cluster
) -> None:
    server = Cluster(cluster.home, "readonly").initialised().start()
    try:
        server.create("d")
        server.sql("d", FILL, "CREATE ROLE looker LOGIN", "GRANT pg_read_all_data TO looker")
        vault = Vault(tmp_path / "store", pg_bin=cluster.programs)
        first = vault.capture(server.dsn("d", "looker"))
        assert (first.snapshots[0].nonce, bool(first.snapshots[0].started)) == ("", True)
        assert vault.capture(server.dsn("d", "looker")).bytes_read == 0
        assert "kpax_backup" not in dump(server.dsn("d"), server.programs, "--schema-only")
        server.stop()
        server.start()
        assert vault.capture(server.dsn("d", "looker")).bytes_read == first.bytes_read
    finally:
        server.delete()


def test_a_database_that_forbids_the_nonce_is_captured_all_the_same(story: Story) -> None:
    story.sql(
        FILL,
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no changes here'; END $$",
        "CREATE EVENT TRIGGER forbids ON ddl_command_start EXECUTE FUNCTION no()",
    )
    part = story.capture()
    assert (part.snapshots[0].nonce, part.rows()) == ("", {"public.t": 5000})
    assert story.capture().bytes_read == 0  # the server process is the same
    story.sql("DROP EVENT TRIGGER forbids")


def test_the_nonce_is_no_part_of_what_is_captured(story: Story) -> None:
    story.sql(FILL)
    before = dump(story.dsn, story.cluster.programs)
    part = story.capture()
    assert dump(story.dsn, story.cluster.programs) == before
    assert "kpax_backup" not in repr(part.tables)
    assert story.sql("SELECT nonces FROM kpax_backup.continuity") == [
        ([part.snapshots[0].nonce],)
    ]


def test_two_runs_at_once_are_both_good_to_build_on(story: Story, tmp_path: Any) -> None:
    story.sql(FILL)
    vaults = [Vault(tmp_path / name, pg_bin=story.cluster.programs) for name in ("a", "b")]
    threads = [threading.Thread(target=vault.capture, args=(story.dsn,)) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vault in vaults:
        assert len(vault.parts) == 1
        nonce = vault.parts[0].snapshots[0].nonce
        assert nonce in story.sql("SELECT nonces FROM kpax_backup.continuity")[0][0]
        vault.capture(story.dsn)
        assert vault.stored[-1] < 2000


def test_runs_that_end_before_their_manifest_cost_no_full_read(story: Story) -> None:
    story.sql(FILL)
    published = story.capture()
    for _ in range(5):
        story.capture(previous=published)
    assert story.capture(previous=published).bytes_read == 0
