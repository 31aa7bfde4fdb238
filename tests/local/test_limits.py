"""Limits that hold: a program that takes more than it may comes to an end, and only it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.limits import Limiter, Mechanism, Mounts, Plan

if TYPE_CHECKING:
    from local.home import Home

_TAKES_MEMORY = """
import json, sys
from local.limits import Plan
Plan.from_json(json.loads(sys.argv[1])).enter()
taken = []
for mib in range(int(sys.argv[2])):
    taken.append(bytearray(b"x") * 2**20)
    print(mib, flush=True)
"""
_BURNS = """
import json, sys, time
from local.limits import Plan
Plan.from_json(json.loads(sys.argv[1])).enter()
end = time.monotonic() + 0.6
while time.monotonic() < end:
    pass
print(time.process_time())
"""


def run(plan: Plan, program: str, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", program, json.dumps(plan.as_json()), *more]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def best(home: Home) -> Limiter:
    """What this machine has: a control group where it may make one, else rlimit."""
    return Limiter(home)


@pytest.mark.parametrize(
    "only", [tuple(Mechanism), (Mechanism.RLIMIT,)], ids=["best", "rlimit"]
)
def test_a_program_gets_its_limit_and_not_much_more(
    home: Home, only: tuple[Mechanism, ...]
) -> None:
    limiter = Limiter(home, mechanisms=only)
    small = limiter.prepare("small", memory_mib=64, cpus=1)
    large = limiter.prepare("large", memory_mib=192, cpus=1)
    try:
        assert small.memory_mib == 64
        stopped = run(small, _TAKES_MEMORY, "150")
        assert stopped.returncode != 0
        assert 30 < len(stopped.stdout.split()) <= 64
        # The same program beside it, with room: nobody else is meant.
        assert run(large, _TAKES_MEMORY, "150").returncode == 0
    finally:
        limiter.release("small")
        limiter.release("large")


def test_the_kernel_ends_what_outgrows_a_control_group_and_rlimit_refuses_it(
    home: Home,
) -> None:
    limiter = best(home)
    plan = limiter.prepare("x", memory_mib=48, cpus=1)
    try:
        ended = run(plan, _TAKES_MEMORY, "100")
    finally:
        limiter.release("x")
    if plan.mechanism is Mechanism.RLIMIT:
        assert "MemoryError" in ended.stderr
    else:
        assert ended.returncode == -9


def test_cpu_is_held_to_its_share_where_there_is_a_control_group(home: Home) -> None:
    limiter = best(home)
    plan = limiter.prepare("x", memory_mib=64, cpus=0.2)
    try:
        used_s = float(run(plan, _BURNS).stdout)
    finally:
        limiter.release("x")
    if plan.cpus is None:
        assert used_s > 0.2  # nothing holds it, and the plan says so
    else:
        assert used_s < 0.35


def test_groups_are_gone_after_release_and_others_stay(home: Home) -> None:
    limiter = best(home)
    one = limiter.prepare("one", memory_mib=64, cpus=1)
    other = limiter.prepare("other", memory_mib=64, cpus=1)
    limiter.release("one")
    assert not any(Path(group).exists() for group in one.groups)
    assert all(Path(group).is_dir() for group in other.groups)
    limiter.release("other")
    limiter.release("other")
    assert not any(Path(group).parent.exists() for group in other.groups)


def test_a_group_is_removed_as_soon_as_its_process_has_gone(home: Home) -> None:
    limiter = best(home)
    plan = limiter.prepare("x", memory_mib=64, cpus=1)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _TAKES_MEMORY + "\nimport signal; signal.pause()",
            json.dumps(plan.as_json()),
            "1",
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.readline()
    process.kill()  # not waited for: the kernel still has it for a moment
    began = time.monotonic()
    limiter.release("x")
    assert not any(Path(group).exists() for group in plan.groups)
    assert time.monotonic() - began < 2
    process.wait()
    process.stdout.close()


def test_a_sweep_removes_what_no_process_is_in(home: Home) -> None:
    limiter = best(home)
    empty = limiter.prepare("empty", memory_mib=64, cpus=1)
    used = limiter.prepare("used", memory_mib=64, cpus=1)
    program = _TAKES_MEMORY + "\nimport signal; signal.pause()"
    argv = [sys.executable, "-c", program, json.dumps(used.as_json()), "1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            limiter.sweep()
            assert not any(Path(group).exists() for group in empty.groups)
            assert all(Path(group).is_dir() for group in used.groups)
        finally:
            process.kill()
    limiter.release("used")
    limiter.sweep()
    assert not any(Path(group).parent.exists() for group in used.groups)


def unified(folder: Path, controllers: str) -> Mounts:
    """A tree as the kernel of a cgroup v2 machine shows it, for groups of the name `x`."""
    for part in (folder, *(folder / name for name in _group_names(folder))):
        part.mkdir(parents=True, exist_ok=True)
        (part / "cgroup.controllers").write_text(controllers)
        (part / "cgroup.subtree_control").write_text("")
        for file in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max"):
            (part / file).write_text("max")
    return Mounts(unified=(folder,), memory=(), cpu=())


def _group_names(folder: Path) -> list[str]:
    name = (folder.parent / "name").read_text()
    return [name, f"{name}/x"]


def test_on_v2_the_controllers_are_handed_down_and_the_limits_written(
    home: Home, tmp_path: Path
) -> None:
    name = Limiter(home)._folder
    (tmp_path / "name").write_text(name)
    root = tmp_path / "cgroup"
    plan = Limiter(home, mounts=unified(root, "cpu memory pids")).prepare(
        "x", memory_mib=128, cpus=1.5
    )
    group = root / name / "x"
    assert plan == Plan(
        mechanism=Mechanism.CGROUP_V2, memory_mib=128, cpus=1.5, groups=(str(group),)
    )
    assert (group / "memory.max").read_text() == str(128 * 2**20)
    assert (group / "memory.swap.max").read_text()[0] == "0"
    assert (group / "cpu.max").read_text() == "150000 100000"
    assert (root / "cgroup.subtree_control").read_text() in {"+memory", "+cpu"}
    (group / "cgroup.procs").write_text("")
    plan.enter()
    assert (group / "cgroup.procs").read_text() == str(os.getpid())


def test_on_v2_without_a_memory_controller_the_next_mechanism_has_its_turn(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "name").write_text(Limiter(home)._folder)
    mounts = unified(tmp_path / "cgroup", "pids")
    plan = Limiter(home, mounts=mounts).prepare("x", memory_mib=128, cpus=1)
    assert (plan.mechanism, plan.cpus) == (Mechanism.RLIMIT, None)


def test_without_any_mechanism_the_plan_says_none(home: Home) -> None:
    nothing = Mounts(unified=(), memory=(), cpu=())
    limiter = Limiter(
        home, mechanisms=(Mechanism.CGROUP_V2, Mechanism.CGROUP_V1), mounts=nothing
    )
    plan = limiter.prepare("x", memory_mib=128, cpus=1)
    assert plan == Plan(mechanism=Mechanism.NONE, memory_mib=None, cpus=None)
    plan.enter()


def test_a_plan_survives_the_way_to_the_process(home: Home) -> None:
    plan = Plan(mechanism=Mechanism.CGROUP_V1, memory_mib=1, cpus=0.5, groups=("/a", "/b"))
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan
