"""Memory and CPU limits for a process, with whatever this machine has to enforce them.

Tried in this order: cgroup v2, cgroup v1, rlimit. A control group may be made below the mount
point (root), beside or below our own group (a delegated session); what cannot be written falls
through to the next. A group is prepared by the parent, entered by the process itself before it
does anything else, and removed when the process is gone.

The three do not measure the same. A group counts the pages a process touches after it entered,
and the kernel kills it beyond the limit. `rlimit` bounds private writable memory (RLIMIT_DATA)
to what the process has at entry plus the limit; beyond that its allocations fail, and there
is no CPU limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import resource
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.home import Home

_MIB = 2**20
_PERIOD_US = 100_000
_GONE_S = 2.0


class Mechanism(StrEnum):
    """Who enforces the limits."""

    CGROUP_V2 = "cgroup v2"
    CGROUP_V1 = "cgroup v1"
    RLIMIT = "rlimit"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a process has to enter; None where a limit is not enforced."""

    mechanism: Mechanism
    memory_mib: int | None
    cpus: float | None
    groups: tuple[str, ...] = ()

    def enter(self) -> None:
        """Put the calling process under the limits, for good."""
        for group in self.groups:
            Path(group, "cgroup.procs").write_text(str(os.getpid()))
        if self.mechanism is Mechanism.RLIMIT and self.memory_mib:
            limit = _data_bytes() + self.memory_mib * _MIB
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def as_json(self) -> dict[str, Any]:
        """For the way to the process that enters."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The reverse of `as_json`."""
        return cls(
            **{
                **fields,
                "mechanism": Mechanism(fields["mechanism"]),
                "groups": tuple(fields["groups"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where control groups are found: mount points by controller, and our own place in them."""

    unified: tuple[Path, ...]  # folders to try below, best first
    memory: tuple[Path, ...]
    cpu: tuple[Path, ...]

    @classmethod
    def of_this_process(cls) -> Self:
        """As /proc/self tells it."""
        return cls(*(tuple(_candidates(name)) for name in ("", "memory", "cpu")))


class Limiter:
    """Prepares and removes the limits of one home's processes."""

    def __init__(
        self,
        home: Home,
        *,
        mechanisms: Sequence[Mechanism] = tuple(Mechanism),
        mounts: Mounts | None = None,
    ) -> None:
        self._folder = f"kpax-{hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]}"
        self._mechanisms = mechanisms
        self._mounts = mounts or Mounts.of_this_process()

    def prepare(self, name: str, *, memory_mib: int, cpus: float) -> Plan:
        """Limits for a process of this name; an older group of that name is used again."""
        for mechanism in self._mechanisms:
            plan = None
            match mechanism:
                case Mechanism.CGROUP_V2:
                    plan = self._unified(name, memory_mib, cpus)
                case Mechanism.CGROUP_V1:
                    plan = self._split(name, memory_mib, cpus)
                case Mechanism.RLIMIT:
                    plan = Plan(mechanism=mechanism, memory_mib=memory_mib, cpus=None)
                case Mechanism.NONE:
                    plan = Plan(mechanism=mechanism, memory_mib=None, cpus=None)
            if plan:
                return plan
        return Plan(mechanism=Mechanism.NONE, memory_mib=None, cpus=None)

    def release(self, name: str) -> None:
        """Remove the groups of a process that has ended; blocks while the kernel clears up."""
        for base in {*self._mounts.unified, *self._mounts.memory, *self._mounts.cpu}:
            group = base / self._folder / _safe(name)
            _remove(group)
            with contextlib.suppress(OSError):
                group.parent.rmdir()  # stays while it holds another process's group

    def sweep(self) -> None:
        """Remove every group of this home that holds no process any more.

        For processes that were ended past `release`; nothing may be starting meanwhile.
        """
        for base in {*self._mounts.unified, *self._mounts.memory, *self._mounts.cpu}:
            parent = base / self._folder
            groups = [entry for entry in parent.glob("*") if entry.is_dir()]
            for group in (*groups, parent):
                with contextlib.suppress(OSError):  # a living process keeps its group
                    group.rmdir()

    def _unified(self, name: str, memory_mib: int, cpus: float) -> Plan | None:
        for base in self._mounts.unified:
            with contextlib.suppress(OSError):
                parent = base / self._folder
                group = parent / _safe(name)
                if not _delegate(base, "memory"):
                    continue
                has_cpu = _delegate(base, "cpu")
                parent.mkdir(exist_ok=True)
                _delegate(parent, "memory")
                has_cpu = has_cpu and _delegate(parent, "cpu")
                group.mkdir(exist_ok=True)
                _write(group / "memory.max", memory_mib * _MIB)
                _write_if_there(group / "memory.swap.max", 0)
                _write_if_there(group / "memory.oom.group", 1)
                if has_cpu:
                    _write(group / "cpu.max", f"{int(cpus * _PERIOD_US)} {_PERIOD_US}")
                return Plan(
                    mechanism=Mechanism.CGROUP_V2,
                    memory_mib=memory_mib,
                    cpus=cpus if has_cpu else None,
                    groups=(str(group),),
                )
        return None

    def _split(self, name: str, memory_mib: int, cpus: float) -> Plan | None:
        memory = cpu = None
        for base in self._mounts.memory:
            with contextlib.suppress(OSError):
                group = self._made(base, name)
                _write(group / "memory.limit_in_bytes", memory_mib * _MIB)
                _write_if_there(group / "memory.memsw.limit_in_bytes", memory_mib * _MIB)
                memory = group
                break
        if memory is None:
            return None
        for base in self._mounts.cpu:
            with contextlib.suppress(OSError):
                group = self._made(base, name)
                _write(group / "cpu.cfs_period_us", _PERIOD_US)
                _write(group / "cpu.cfs_quota_us", int(cpus * _PERIOD_US))
                cpu = group
                break
        return Plan(
            mechanism=Mechanism.CGROUP_V1,
            memory_mib=memory_mib,
            cpus=cpus if cpu else None,
            groups=tuple(str(group) for group in (memory, cpu) if group),
        )

    def _made(self, base: Path, name: str) -> Path:
        group = base / self._folder / _safe(name)
        group.mkdir(parents=True, exist_ok=True)
        return group


def _candidates(controller: str) -> Iterator[Path]:
    """Folders below which a group may be made; "" is the unified hierarchy of v2."""
    own = "/"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = path
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4])
        kind, _, options = after.split()[:3]
        wanted = kind == "cgroup2" if not controller else controller in options.split(",")
        if kind not in {"cgroup", "cgroup2"} or not wanted:
            continue
        here = point / own.lstrip("/")
        yield from dict.fromkeys(
            p for p in (point, here.parent, here) if p.is_relative_to(point)
        )


def _delegate(folder: Path, controller: str) -> bool:
    """Whether groups below `folder` have this controller, after asking for it if need be."""
    if controller not in (folder / "cgroup.controllers").read_text().split():
        return False
    switch = folder / "cgroup.subtree_control"
    if controller not in switch.read_text().split():
        try:
            switch.write_text(f"+{controller}")
        except OSError:  # not ours, or processes live in it: only leaves may hold any
            return False
    return True


def _write(file: Path, value: object) -> None:
    # Not write_text with "w": a control file takes no truncation in some kernels' containers.
    with file.open("r+") as handle:
        handle.write(str(value))


def _write_if_there(file: Path, value: object) -> None:
    with contextlib.suppress(OSError):
        _write(file, value)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + _GONE_S
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        else:
            return


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _data_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * os.sysconf("SC_PAGE_SIZE")
