"""Makes the running instances what the scale sets say, and finds them again after a restart.

What is wanted is written down before a process starts; what runs is written down by the process
itself, before it listens, under a lock that it holds for life. So whoever dies in between, the
next `ensure` or `recover` sees the truth: it never starts an instance twice.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shutil
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from local import processes
from local.compute.nursery import Nursery, NurseryError
from local.compute.parent import Order
from local.compute.types import Instance, ScaleSet
from local.errors import StackError
from local.home import replace_text
from local.limits import Limiter, Mechanism
from local.space_app.settings import InstanceConfig

if TYPE_CHECKING:
    from local.home import Home

log = logging.getLogger("local.compute")

_LOOK_S = 0.005
_LISTENS_S = 20.0
_HEALTHY_S = 10.0
_PROBE_S = 1.0
_GRACE_S = 5.0
_PORT_TRIES = 3


class ComputeError(StackError):
    """An instance cannot be started, or is not healthy after its restart."""


class Compute:
    """The scale sets of one home; used from one event loop."""

    def __init__(
        self,
        home: Home,
        *,
        limiter: Limiter | None = None,
        application: str = "local.space_app.app:make_app",
    ) -> None:
        self._home = home
        self._limiter = limiter or Limiter(home)
        self._application = application
        self._nursery = Nursery(home)
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, s: ScaleSet) -> list[Instance]:
        """Make the instances match `s`, and return when they listen (not: are healthy).

        Missing ones start at once. Those that were started otherwise are restarted one by one;
        one that was healthy has to be so again within ten seconds before the next has its turn.

        Raises:
            ComputeError: an instance does not start, or not become healthy again; the rest is
                left as it is, and the next call goes on from there.
        """
        async with self._busy[s.name]:
            return await self._ensure(s)

    async def restart(self, name: str) -> None:
        """End every instance of a set and start it again, all at once.

        Raises:
            ComputeError: an instance does not start; the next `ensure` goes on from there.
        """
        async with self._busy[name]:
            record = self._record(name)
            if record is None or record[1]:
                return
            await asyncio.gather(*(self._end(name, i, forget=False) for i in record[0].ids()))
            await self._ensure(record[0])

    async def delete(self, name: str) -> None:
        """End the instances of a set and forget it; an unknown name is no error."""
        async with self._busy[name]:
            record = self._record(name)
            if record is None:
                return
            self._write(record[0], deleting=True)
            ids = {*record[0].ids(), *self._known_ids(name)}
            await asyncio.gather(*(self._end(name, instance) for instance in ids))
            shutil.rmtree(self._folder(name), ignore_errors=True)

    def instances(self, name: str) -> list[Instance]:
        """The instances of a set as they are now, without asking them for their health."""
        record = self._record(name)
        if record is None or record[1]:
            return []
        return [self._instance(record[0], instance) for instance in record[0].ids()]

    async def probe(self, name: str) -> list[Instance]:
        """The instances of a set, each asked for its health."""
        found = self.instances(name)
        health = await asyncio.gather(*(self._is_healthy(instance) for instance in found))
        return [replace(i, healthy=h) for i, h in zip(found, health, strict=True)]

    async def recover(self) -> None:
        """After a restart: keep what lives, start what is missing, finish interrupted deletions.

        A set that does not come up is logged; the others do not wait for it.
        """
        await asyncio.gather(*(self._recover(name) for name in self._recorded_names()))

    async def close(self) -> None:
        """Let go of the fork parent; instances live on."""
        await self._nursery.close()

    def names(self) -> list[str]:
        """Every set that is wanted."""
        found = [(name, self._record(name)) for name in self._recorded_names()]
        return [name for name, record in found if record and not record[1]]

    def _recorded_names(self) -> list[str]:
        folder = self._home.path("compute", "*").parent
        return sorted(file.parent.name for file in folder.glob("*/set.json"))

    async def _recover(self, name: str) -> None:
        record = self._record(name)
        if record is None:
            return
        try:
            if record[1]:
                await self.delete(name)
            else:
                await self.ensure(record[0])
        except StackError as error:
            log.error("compute.not_recovered %s: %s", name, error)  # noqa: TRY400 — the reason says it all

    async def _ensure(self, s: ScaleSet) -> list[Instance]:
        self._write(s, deleting=False)
        wanted = s.ids()
        surplus = set(self._known_ids(s.name)) - set(wanted)
        await asyncio.gather(*(self._end(s.name, instance) for instance in surplus))
        if not s.running:
            await asyncio.gather(*(self._end(s.name, i, forget=False) for i in wanted))
            return self.instances(s.name)
        missing = [i for i in wanted if self._running(s.name, i) is None]
        started = await asyncio.gather(
            *(self._start(s, instance) for instance in missing), return_exceptions=True
        )
        for failure in started:
            if isinstance(failure, BaseException):
                raise failure
        for instance in wanted:
            await self._renew(s, instance)
        return await self.probe(s.name)

    async def _renew(self, s: ScaleSet, instance: str) -> None:
        """Restart one instance if it was started otherwise than `s` says."""
        state = self._state(s.name, instance)
        if state.get("fingerprint") == s.fingerprint(instance):
            return
        was_healthy = await self._is_healthy(self._instance(s, instance))
        if was_healthy:
            # An earlier call may have ended between the restart of another and its health.
            await self._renewed_are_healthy(s)
        await self._end(s.name, instance, forget=False)
        await self._start(s, instance)
        log.info("compute.restarted %s", instance)
        if was_healthy:
            await self._renewed_are_healthy(s)

    async def _renewed_are_healthy(self, s: ScaleSet) -> None:
        renewed = [
            instance
            for instance in s.ids()
            if self._state(s.name, instance).get("fingerprint") == s.fingerprint(instance)
        ]
        deadline = asyncio.get_running_loop().time() + _HEALTHY_S
        for instance in renewed:
            while not await self._is_healthy(self._instance(s, instance)):
                if asyncio.get_running_loop().time() > deadline:
                    raise ComputeError(
                        f"{instance} is not healthy {_HEALTHY_S:.0f} s after its restart; "
                        "the instances that still run as before were left so.",
                        remedy=f"Its log: {self._log(instance)}",
                    )
                await asyncio.sleep(0.05)

    async def _start(self, s: ScaleSet, instance: str) -> None:
        state: dict[str, Any] = {}
        for _ in range(_PORT_TRIES):
            state = await self._attempt(s, instance)
            if state.get("listening"):
                return
            if state.get("errno") != errno.EADDRINUSE:
                break
            self._home.forget_port(_port_name(instance))
        raise ComputeError(
            f"{instance} does not start: {state.get('error') or 'its process has ended'}.",
            remedy=f"Its log: {self._log(instance)}",
        )

    async def _attempt(self, s: ScaleSet, instance: str) -> dict[str, Any]:
        """Fork once; the state that the instance wrote when it listens or has failed."""
        plan = self._limiter.prepare(instance, memory_mib=s.memory_mib, cpus=s.cpus)
        order = Order(
            config=InstanceConfig(
                instance=instance,
                zone=s.zone(instance),
                port=self._home.port(_port_name(instance)),
                vault_uri=s.vault_uri,
                vault_token=s.vault_token,
                ca_file=str(self._home.path("key_vault", "ca.pem")),
                front_door_id=self._home.secret("front_door_id"),
            ),
            plan=plan.as_json(),
            fingerprint=s.fingerprint(instance),
            state_file=str(self._state_file(s.name, instance)),
            log_file=self._log(instance),
            application=self._application,
        )
        try:
            pid = await self._nursery.fork(order)
        except NurseryError as error:
            raise ComputeError(f"{instance} cannot be started: {error}.") from error
        return await self._settled(s.name, instance, pid)

    async def _settled(self, name: str, instance: str, pid: int) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + _LISTENS_S
        while asyncio.get_running_loop().time() < deadline:
            lives = processes.identify(pid) is not None
            state = self._state(name, instance)
            settled = state.get("listening") or state.get("error")
            # Another process's word counts too: a start whose starter died before us.
            if settled and (state["pid"] == pid or self._running(name, instance)):
                return state
            if not lives and not self._running(name, instance):
                return self._state(name, instance)
            await asyncio.sleep(_LOOK_S)
        return {"error": f"it does not listen after {_LISTENS_S:.0f} s"}

    async def _end(self, name: str, instance: str, *, forget: bool = True) -> None:
        identity = self._running(name, instance)
        if identity:
            await asyncio.to_thread(processes.end, identity, grace_s=_GRACE_S)
        await asyncio.to_thread(self._limiter.release, instance)
        self._state_file(name, instance).unlink(missing_ok=True)
        if forget:
            self._home.forget_port(_port_name(instance))

    async def _is_healthy(self, instance: Instance) -> bool:
        if instance.pid is None:
            return False
        timeout = aiohttp.ClientTimeout(total=_PROBE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{instance.address}/healthz") as answer,
            ):
                body = await answer.json()
                return answer.status == 200 and body["instance"] == instance.id
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
            return False

    def _instance(self, s: ScaleSet, instance: str) -> Instance:
        state = self._state(s.name, instance)
        identity = self._running(s.name, instance)
        port = state.get("port") or self._home.port(_port_name(instance))
        return Instance(
            id=instance,
            scale_set=s.name,
            zone=s.zone(instance),
            address=f"127.0.0.1:{port}",
            pid=identity.pid if identity else None,
            healthy=None if identity else False,
            memory_limit_mib=state.get("memory_limit_mib"),
            cpu_limit=state.get("cpu_limit"),
            mechanism=state.get("mechanism", Mechanism.NONE),
        )

    def _running(self, name: str, instance: str) -> processes.Identity | None:
        state = self._state(name, instance)
        if "pid" not in state:
            return None
        identity = processes.Identity(state["pid"], state["started"])
        return identity if processes.alive(identity) and self._is_ours(identity) else None

    def _is_ours(self, identity: processes.Identity) -> bool:
        with suppress(OSError):
            variables = Path(f"/proc/{identity.pid}/environ").read_bytes().split(b"\0")
            return f"{processes.MARKER}={self._home.root}".encode() in variables
        return False

    def _record(self, name: str) -> tuple[ScaleSet, bool] | None:
        try:
            found = json.loads((self._folder(name) / "set.json").read_bytes())
        except FileNotFoundError:
            return None
        fields = found["set"] | {"zones": tuple(found["set"]["zones"])}
        return ScaleSet(**fields), found["deleting"]

    def _write(self, s: ScaleSet, *, deleting: bool) -> None:
        file = self._home.path("compute", s.name, "set.json")
        replace_text(file, json.dumps({"set": asdict(s), "deleting": deleting}, indent=2))

    def _known_ids(self, name: str) -> list[str]:
        return [file.stem for file in self._folder(name).glob(f"{name}_*.json")]

    def _state(self, name: str, instance: str) -> dict[str, Any]:
        try:
            return json.loads(self._state_file(name, instance).read_bytes())
        except FileNotFoundError:
            return {}

    def _state_file(self, name: str, instance: str) -> Path:
        return self._home.path("compute", name, f"{instance}.json")

    def _folder(self, name: str) -> Path:
        return self._home.path("compute", name)

    def _log(self, instance: str) -> str:
        return str(self._home.path("logs", f"{instance}.log"))


def _port_name(instance: str) -> str:
    return f"instance_{instance}"
