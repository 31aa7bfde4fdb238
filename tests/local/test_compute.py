"""Instances as real processes: started, found again, restarted one by one, limited, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from local import processes
from local.compute import Compute, ComputeError, ScaleSet
from local.limits import Limiter, Mechanism, Mounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from local.compute import Instance
    from local.home import Home

pytestmark = pytest.mark.stack

SIMPLE = "tests.local.compute_apps:simple"
GREEDY = "tests.local.compute_apps:greedy"
SLOW = "tests.local.compute_apps:slow"
SICK = "tests.local.compute_apps:sick_when_told"


def a_set(name: str = "s-1-1", **changes: object) -> ScaleSet:
    found = ScaleSet(
        name=name,
        zones=("1", "2"),
        capacity=2,
        memory_mib=128,
        cpus=1.0,
        vault_uri="https://127.0.0.1:1/",
        vault_token="token",
        tags={},
        revision="1",
    )
    return replace(found, **changes)


@asynccontextmanager
async def computing(
    home: Home, application: str = SIMPLE, **more: Limiter
) -> AsyncIterator[Compute]:
    """A Compute whose instances are gone afterwards."""
    compute = Compute(home, application=application, **more)
    try:
        yield compute
    finally:
        for name in compute.names():
            await compute.delete(name)
        await compute.close()
        assert processes.marked(home) == []


@pytest.fixture
async def compute(home: Home) -> AsyncIterator[Compute]:
    async with computing(home) as compute:
        yield compute


def pids(instances: list[Instance]) -> list[int | None]:
    return [instance.pid for instance in instances]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 — other processes change it
            await asyncio.sleep(0.005)


def gone(pid: int | None) -> bool:
    assert pid
    return processes.identify(pid) is None


def control_groups(pid: int | None) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def open_files(pid: int | None) -> list[str]:
    links: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # The instance asks its vault meanwhile: a connection may be closed between list and read.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    return links


def environment(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def left_groups(home: Home) -> list[Path]:
    mounts = Mounts.of_this_process()
    bases = {*mounts.unified, *mounts.memory, *mounts.cpu}
    name = Limiter(home)._folder
    return [base / name for base in bases if (base / name).exists()]


async def test_instances_listen_in_their_zones_when_ensure_returns(compute: Compute) -> None:
    instances = await compute.ensure(a_set(capacity=3, zones=("1", "2", "3")))
    assert [(i.id, i.zone, i.scale_set) for i in instances] == [
        ("s-1-1_0", "1", "s-1-1"),
        ("s-1-1_1", "2", "s-1-1"),
        ("s-1-1_2", "3", "s-1-1"),
    ]
    assert len({i.address for i in instances}) == 3
    assert all(i.pid and i.healthy for i in instances)


async def test_more_instances_than_zones_go_round(compute: Compute) -> None:
    instances = await compute.ensure(a_set(capacity=3))
    assert [i.zone for i in instances] == ["1", "2", "1"]


async def test_ensuring_the_same_again_touches_nothing(compute: Compute) -> None:
    first = await compute.ensure(a_set())
    again = await compute.ensure(a_set(tags={"new": "tag"}))
    assert pids(again) == pids(first)
    assert pids(compute.instances("s-1-1")) == pids(first)


async def test_every_instance_names_the_limits_that_hold_it(
    home: Home, compute: Compute
) -> None:
    [instance, _] = await compute.ensure(a_set(memory_mib=96, cpus=1.5))
    assert instance.memory_limit_mib == 96
    assert instance.mechanism in set(Mechanism) - {Mechanism.NONE}
    if instance.mechanism == Mechanism.CGROUP_V1:
        name = f"/{Limiter(home)._folder}/s-1-1_0\n"
        assert control_groups(instance.pid).count(name) == 2
        assert instance.cpu_limit == 1.5


@pytest.mark.parametrize(
    "only", [tuple(Mechanism), (Mechanism.RLIMIT,)], ids=["best", "rlimit"]
)
async def test_an_instance_that_takes_too_much_dies_alone_and_is_started_again_on_demand(
    home: Home, only: tuple[Mechanism, ...]
) -> None:
    async with computing(home, GREEDY, limiter=Limiter(home, mechanisms=only)) as compute:
        wanted = a_set(memory_mib=64)
        greedy, other = await compute.ensure(wanted)
        [bystander] = await compute.ensure(a_set("s-2-1", capacity=1))
        headers = {"X-Azure-FDID": home.secret("front_door_id")}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(f"http://{greedy.address}/take?mib=20") as answer:
                assert (await answer.json()) == {"mib": 20}
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.post(f"http://{greedy.address}/take?mib=200")
            await eventually(lambda: compute.instances("s-1-1")[0].pid is None)
            async with session.post(f"http://{other.address}/take?mib=20") as answer:
                assert answer.status == 200
        [dead, alive] = await compute.probe("s-1-1")
        assert (dead.pid, dead.healthy) == (None, False)
        assert alive.pid == other.pid
        assert pids(compute.instances("s-2-1")) == [bystander.pid]
        [new, same] = await compute.ensure(wanted)
        assert new.pid not in {None, greedy.pid}
        assert same.pid == other.pid


async def test_a_new_revision_restarts_one_by_one_and_somebody_always_answers(
    compute: Compute,
) -> None:
    first = await compute.ensure(a_set())
    done = asyncio.Event()
    gaps = 0

    async def watch() -> int:
        looks = 0
        nonlocal gaps
        while not done.is_set():
            looks += 1
            gaps += not any(i.healthy for i in await compute.probe("s-1-1"))
        return looks

    watcher = asyncio.create_task(watch())
    second = await compute.ensure(a_set(revision="2"))
    done.set()
    assert await watcher > 0
    assert gaps == 0
    assert not set(pids(first)) & set(pids(second))
    assert [i.address for i in first] == [i.address for i in second]


async def test_a_restart_waits_for_health_and_a_first_start_does_not(home: Home) -> None:
    async with computing(home, SLOW) as compute:
        first = await compute.ensure(a_set())
        assert not any(i.healthy for i in first)
        for _ in range(10):
            first = await compute.probe("s-1-1")
        assert all(i.healthy for i in first)
        second = await compute.ensure(a_set(revision="2"))
        assert all(i.healthy for i in second)
        assert not set(pids(first)) & set(pids(second))


async def test_a_restart_that_does_not_become_healthy_leaves_the_other_instance_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.compute.sets._HEALTHY_S", 0.3)
    async with computing(home, SICK) as compute:
        first = await compute.ensure(a_set())
        assert all(i.healthy for i in first)
        sick = a_set(revision="2", vault_uri="https://sick/")
        for _ in range(2):  # a second call must not take the last healthy one either
            with pytest.raises(ComputeError, match="s-1-1_0 is not healthy"):
                await compute.ensure(sick)
            [broken, untouched] = await compute.probe("s-1-1")
            assert broken.healthy is False
            assert (untouched.pid, untouched.healthy) == (first[1].pid, True)
        mended = await compute.ensure(a_set(revision="3"))
        assert all(i.healthy for i in mended)


async def test_capacity_goes_up_and_down(compute: Compute) -> None:
    first = await compute.ensure(a_set(capacity=1))
    more = await compute.ensure(a_set(capacity=3))
    assert more[0].pid == first[0].pid
    less = await compute.ensure(a_set(capacity=1))
    assert pids(less) == pids(first)
    assert all(gone(i.pid) for i in more[1:])


async def test_deleting_leaves_no_process_group_port_or_record(
    home: Home, compute: Compute
) -> None:
    instances = await compute.ensure(a_set())
    await compute.delete("s-1-1")
    await compute.delete("s-1-1")
    assert compute.instances("s-1-1") == []
    assert all(gone(i.pid) for i in instances)
    assert not home.path("compute", "s-1-1").exists()
    assert "instance_s-1-1" not in home.path("stack.json").read_text()
    assert left_groups(home) == []


async def test_what_was_killed_is_started_again_by_recover(compute: Compute) -> None:
    [killed, left] = await compute.ensure(a_set())
    os.kill(killed.pid or 0, signal.SIGKILL)
    await eventually(lambda: gone(killed.pid))
    await compute.recover()
    [new, same] = await compute.probe("s-1-1")
    assert same == left
    assert new.healthy
    assert new.pid != killed.pid
    assert new.address == killed.address


_STARTER = """
import asyncio, os, signal, sys
from local.compute import Compute, ScaleSet
from local.home import Home

async def main():
    compute = Compute(Home.open(), application=sys.argv[1])
    s = ScaleSet("s-1-1", ("1", "2"), 2, 128, 1.0, "https://127.0.0.1:1/", "token", {}, "1")
    await compute.ensure(s)
    print(compute._nursery.pid, *(i.pid for i in compute.instances("s-1-1")), flush=True)
    signal.pause()

asyncio.run(main())
"""


async def test_instances_outlive_a_killed_starter_and_are_found_again(home: Home) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _STARTER,
        SIMPLE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "KPAX_HOME": str(home.root)},
    )
    assert starter.stdout
    parent, *started = map(int, (await starter.stdout.readline()).split())
    starter.kill()
    await starter.wait()
    await eventually(lambda: gone(parent))
    async with computing(home) as compute:
        await compute.recover()
        assert pids(await compute.probe("s-1-1")) == started
        assert pids(await compute.ensure(a_set())) == started
        assert compute._nursery.pid is None  # nothing had to be forked


async def test_a_foreign_process_with_the_recorded_pid_is_not_taken_for_an_instance(
    home: Home, compute: Compute
) -> None:
    [instance, _] = await compute.ensure(a_set())
    stranger = processes.spawn(
        ["sleep", "60"],
        home=type(home)(home.root.parent / "elsewhere"),
        name="stranger",
        log=home.root.parent / "log",
        die_with_parent=True,
    )
    state = home.path("compute", "s-1-1", "s-1-1_0.json")
    text = state.read_text()
    try:
        state.write_text(
            text.replace(f'"pid": {instance.pid}', f'"pid": {stranger.pid}').replace(
                '"started": ', f'"started": {stranger.started}, "was": '
            )
        )
        assert compute.instances("s-1-1")[0].pid is None
    finally:
        state.write_text(text)
        processes.end(stranger)


async def test_a_port_taken_by_somebody_else_is_given_up_for_another(compute: Compute) -> None:
    [instance, other] = await compute.ensure(a_set())
    port = int(instance.address.rpartition(":")[2])
    os.kill(instance.pid or 0, signal.SIGKILL)
    await eventually(lambda: gone(instance.pid))
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        [moved, same] = await compute.ensure(a_set())
    assert moved.address != instance.address
    assert moved.healthy
    assert same == other


async def test_a_deletion_that_was_interrupted_is_finished_by_recover(
    home: Home, compute: Compute
) -> None:
    instances = await compute.ensure(a_set())
    compute._write(a_set(), deleting=True)  # as a process killed in `delete` leaves it
    assert compute.names() == []
    await compute.recover()
    assert all(gone(i.pid) for i in instances)
    assert not home.path("compute", "s-1-1").exists()


async def test_two_starters_at_once_start_an_instance_only_once(
    home: Home, compute: Compute
) -> None:
    other = Compute(home, application=SIMPLE)
    try:
        one, two = await asyncio.gather(compute.ensure(a_set()), other.ensure(a_set()))
        assert pids(one) == pids(two)
        assert len(processes.marked(home)) == 2 + 2  # two parents, two instances
    finally:
        await other.close()


async def test_a_dead_parent_is_replaced_and_its_instances_live_on(compute: Compute) -> None:
    first = await compute.ensure(a_set())
    os.kill(compute._nursery.pid or 0, signal.SIGKILL)
    assert (await compute.ensure(a_set("s-9-1", capacity=1)))[0].healthy
    assert pids(await compute.probe("s-1-1")) == pids(first)


async def test_an_instance_holds_nothing_of_its_parent(home: Home, compute: Compute) -> None:
    os.environ["KPAX_TEST_SECRET"] = "not for instances"
    try:
        [instance, _] = await compute.ensure(a_set())
    finally:
        del os.environ["KPAX_TEST_SECRET"]
    links = open_files(instance.pid)
    files = {link for link in links if link.startswith("/")}
    assert files == {
        "/dev/null",
        str(home.path("logs", "s-1-1_0.log")),
        str(home.path("locks", "instance_s-1-1_0")),
    }
    assert not [link for link in links if link.startswith("pipe:")]
    assert b"KPAX_TEST_SECRET" not in environment(instance.pid)
    assert b"token" not in environment(instance.pid)
    assert os.getsid(instance.pid or 0) == instance.pid


async def test_one_more_instance_costs_little_memory_and_time(compute: Compute) -> None:
    await compute.ensure(a_set(capacity=1))
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await compute.ensure(a_set(capacity=4))
    took_s = loop.time() - began
    assert took_s < 1.5  # some 15 ms each on an idle machine
    assert sum(processes.pss_mib(i.pid or 0) for i in found) / 4 < 20
