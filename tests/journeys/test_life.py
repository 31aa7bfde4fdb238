"""The whole life of one space on real parts: processes, a database server, a vault, files."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from backups.places import Places
from backups.restore import found
from local.app_settings import app_settings
from local.home import Home
from spaces import audit, names
from spaces.adapters.opening import opened
from spaces.configuration import checked_app_settings
from spaces.desire import overridden
from spaces.errors import ConflictError, DamagedError, LostRaceError, RefusedError
from spaces.model import OpKind, OpStatus, Override, Space, Wish
from spaces.ports import StackState
from spaces.registry import Change, Registry
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES
from spaces.settings import read
from tests.journeys.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from spaces.ports import Ports
    from spaces.registry import OpRow
    from spaces.settings import Settings

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

NAME = "life"
WISHES = {
    OpKind.SUSPEND: Wish.SUSPENDED,
    OpKind.RESUME: Wish.ACTIVE,
    OpKind.CANCEL: Wish.CANCELLED,
}


class Life:
    """A running stack with one space, and the control plane's own ports to it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.home = Home.open(stack.home)
        self.settings: Settings = read(app_settings(self.home))
        self.loop = asyncio.new_event_loop()
        self.adapters = opened(self.settings)
        self.url = ""
        self.ids: dict[str, str] = {}

    def with_ports[T](self, work: Callable[[Ports], Coroutine[Any, Any, T]]) -> T:
        return self.loop.run_until_complete(work(self.adapters.ports))

    def close(self) -> None:
        self.loop.run_until_complete(self.adapters.close())
        self.loop.close()

    def space(self) -> Space:
        async def look(ports: Ports) -> Space:
            return (await Registry(ports.tables).find(NAME)).space

        return self.with_ports(look)

    def do(self, kind: OpKind, **params: str) -> Space:
        """Start an operation and see it end well."""
        op_id = self.with_ports(lambda ports: self._begin(ports, kind, params))
        self.ended(op_id)
        return self.space()

    def ended(self, op_id: str) -> None:
        """Wait for its end, asking the rows: a command each time would take longer than the step."""

        async def told(ports: Ports) -> OpRow:
            until = time.monotonic() + 90
            while True:
                found = await Registry(ports.tables).operation(self.ids["sid"], op_id)
                assert found is not None
                if found[0].status not in {OpStatus.NOT_STARTED, OpStatus.RUNNING}:
                    return found[0]
                assert time.monotonic() < until, f"{op_id} did not end: {found}"
                await asyncio.sleep(0.1)

        row = self.with_ports(told)
        assert row.status is OpStatus.SUCCEEDED, row

    async def _begin(self, ports: Ports, kind: OpKind, params: dict[str, str]) -> str:
        now, wish = ports.clock.now(), WISHES.get(kind)
        override = wish and Override(wish=wish, reason="a journey", actor="test", at=now)
        for _ in range(50):
            loaded = await Registry(ports.tables).find(NAME)
            cause = Cause(
                actor="test",
                source="journey",
                cause_id=f"{kind}-{loaded.space.op_seq}",
                params={**params},
                change=lambda space: overridden(space, override, now) if override else space,
            )
            try:
                return (await begin(ports, loaded, OUTLINES[kind], cause)).op_id
            except (LostRaceError, ConflictError):
                continue
            except RefusedError as error:
                if error.problem_slug != "operation-running":
                    raise
                await asyncio.sleep(0.2)
        raise AssertionError(f"{kind} could not be started")

    def answer(self, path: str = "/healthz", body: dict[str, Any] | None = None) -> int:
        return self.ask(path, body)[0]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        host = self.url.removeprefix("http://")
        request = urllib.request.Request(
            f"http://127.0.0.1:{host.rpartition(':')[2]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Host": host},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as told:
                return told.status, told.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def processes(self) -> set[int]:
        """Processes of the space that live: its machines and its database server."""
        url = f"{self.settings.arm_endpoint}/_local/processes"
        token = {"Authorization": f"Bearer {self.settings.static_token}"}
        request = urllib.request.Request(url, headers=token)  # noqa: S310 — a loopback address
        with urllib.request.urlopen(request, timeout=10) as told:  # noqa: S310 — as above
            items = json.load(told)["items"]
        mine = {one["pid"] for one in items if self.ids["sid"] in one["name"] and one["pid"]}
        return {pid for pid in mine if _lives(pid)}

    def told(self) -> dict[str, Any]:
        """What the space's application is told at this moment."""
        space = self.space()
        assert space.resources is not None
        vault = space.resources.vault_uri
        text = self.with_ports(lambda ports: ports.secrets.get(vault, "settings"))
        return json.loads(text or "{}")

    def query(self, user: str, password: str, query: str, *, database: str = "app") -> Any:
        told = self.ids

        async def run() -> Any:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=int(told["port"]),
                user=user,
                password=password,
                database=database,
            )
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()

        return self.loop.run_until_complete(run())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def asking(life: Life) -> Iterator[list[int]]:
    """Ask for the space's data all the while; the statuses of the answers."""
    answers: list[int] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            answers.append(life.answer("/api/devices"))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    stack = Stack()
    stack.write_settings({"KPAX_POLL_FLOOR_S": "0.1"})
    stack.up()
    try:
        order = stack.order(NAME)
        stack.pay(order, "--set", "grace_days=0")
        stack.until_active(NAME)
        life = Life(stack)
        space = life.space()
        assert space.resources is not None
        life.url = stack.space(NAME)["url"]
        life.ids = {
            "sid": space.space_id,
            "port": space.resources.database_host.rpartition(":")[2],
            "vault": names.vault(space),
            "server": names.database_server(space),
        }
        assert life.answer("/api/devices", {"name": "Pumpe", "serial": "P-1"}) == 201
        yield life
        life.close()
    finally:
        stack.down()


def test_suspended_it_runs_nowhere_is_backed_up_and_comes_back(life: Life) -> None:
    assert len(life.processes()) >= 3
    space = life.do(OpKind.SUSPEND)
    assert (space.status, life.answer(), life.processes()) == ("suspended", 503, set())
    space = life.do(OpKind.BACKUP)
    assert space.last_backup is not None
    assert space.last_backup.verified_at is not None
    assert (space.status, life.processes()) == ("suspended", set())
    space = life.do(OpKind.RESUME)
    assert (space.status, life.answer()) == ("active", 200)
    assert b"Pumpe" in life.ask("/api/devices")[1]


def test_a_larger_plan_brings_machines_memory_and_limits(life: Life) -> None:
    before = {one["memory_mib"] for one in life.stack.space(NAME)["instances"]}
    space = life.do(OpKind.RESIZE, plan="premium")
    shown = life.stack.space(NAME)
    assert (space.tier, shown["plan"], shown["zones"]) == (
        "premium",
        "premium",
        ["1", "2", "3"],
    )
    assert len(shown["instances"]) == 3
    assert min(one["memory_mib"] for one in shown["instances"]) > max(before)
    database = life.told()["database"]
    limits = [
        life.query(database["user"], database["password"], f"SHOW {name}")
        for name in ("work_mem", "statement_timeout")
    ]
    assert limits == ["16MB", "2min"]
    assert b"Pumpe" in life.ask("/api/devices")[1]


def test_other_settings_are_seen_by_its_customers(life: Life) -> None:
    life.do(OpKind.CONFIGURE, settings=checked_app_settings({"title": "Werk Zwei"}))
    assert b"<h1>Werk Zwei</h1>" in life.ask("/")[1]


def test_the_old_secrets_open_nothing_after_a_rotation(life: Life) -> None:
    old = life.told()
    with asking(life) as answers:
        space = life.do(OpKind.ROTATE_SECRETS)
    assert len(answers) > 5
    assert set(answers) == {200}, "its customers noticed"
    new = life.told()
    assert space.secret_revision == 2
    assert life.query(new["database"]["user"], new["database"]["password"], "SELECT 1") == 1
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        life.query(old["database"]["user"], old["database"]["password"], "SELECT 1")
    assert old["storage"]["connection_string"] != new["storage"]["connection_string"]
    assert life.answer("/api/devices", {"name": "Ventil", "serial": "V-1"}) == 201
    owner = life.query(
        new["database"]["user"],
        new["database"]["password"],
        "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = 'public'",
    )
    assert owner == "kpax_app"


def test_in_quarantine_it_runs_and_answers_nobody(life: Life) -> None:
    life.do(OpKind.QUARANTINE, reason="a leak", actor="test")
    assert life.answer() == 503
    assert len(life.processes()) >= 4
    space = life.do(OpKind.RELEASE)
    assert (space.quarantined, life.answer()) == (None, 200)


def test_cancelled_without_grace_it_is_deleted_and_its_backups_stay(life: Life) -> None:
    folder = life.home.path("postgres", life.ids["server"])
    assert folder.exists()
    life.do(OpKind.CANCEL)
    life.stack.until(
        lambda: life.space().status == "deleted", within_s=90, told="it was not deleted"
    )
    space = life.space()
    kinds = [one["kind"] for one in life.stack.json("op", "list", NAME)["items"]]
    assert kinds[:2] == ["delete", "cancel"]
    assert (life.processes(), folder.exists(), life.answer()) == (set(), False, 404)
    assert space.final_backup is not None

    async def stands(ports: Ports) -> tuple[StackState, bool, int]:
        places = Places(life.settings)
        engine, store = places.engine(ports), places.store(ports, space)
        assert space.final_backup is not None
        manifest = await found(engine, store, space.final_backup)
        stack = await ports.arm.get_stack(names.stack(space))
        purged = await ports.arm.purge_vault(life.ids["vault"], space.azure_region)
        return stack.state, purged, manifest.rows

    state, purged, rows = life.with_ports(stands)
    assert (state, purged, rows > 2) == (StackState.ABSENT, True, True)


def test_erased_nobody_can_read_it(life: Life) -> None:
    async def time_passes(ports: Ports) -> None:
        registry = Registry(ports.tables)
        loaded = await registry.find(NAME)
        entry = audit.Entry(act="time.passed", actor="test", obj="", detail={})
        over = replace(loaded.space, retain_until=ports.clock.now())
        await registry.commit(loaded, Change(space=over, entry=entry), now=ports.clock.now())

    life.with_ports(time_passes)
    space = life.do(OpKind.ERASE)
    assert space.status == "erased"
    assert space.tombstone is not None
    assert "data key is missing" in space.tombstone.proof

    async def left(ports: Ports) -> list[str]:
        store = Places(life.settings).store(ports, space)
        there = [info.name async for info in store.blobs.list(store.container)]
        for secret in names.secrets_of(space):
            there += [secret] if await ports.secrets.get(store.vault, secret) else []
        assert space.final_backup is not None
        with pytest.raises(DamagedError):
            await found(Places(life.settings).engine(ports), store, space.final_backup)
        return there

    assert life.with_ports(left) == []
    assert life.stack.run("restore", NAME, "--at", "latest", "--json").code != 0
