"""The supervisor's own rules, on parts that a test makes up: no cloud is started here."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from local import (
    app_settings,
    processes,
    stack,
    supervisor,
    supervisor_checks,
    supervisor_state,
)
from local.errors import StackError
from local.home import Home
from local.stack import PARTS, Part
from local.supervisor_progress import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

# A part that answers every request with 200, or ends at once with a last word.
SERVES = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
FAILS = "import sys; sys.exit('the disk ate my settings')"
NAMES = ("one", "two", "three")


class Told(Lines):
    """Progress that a test can read."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()


class Stand:
    """A stack of made-up parts."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.programs = dict.fromkeys(NAMES, SERVES)
        self.parts = tuple(
            Part(name=name, ports=(name,), path="/", health_port=name, stops=number)
            for number, name in enumerate(NAMES)
        )

    def start(self, home: Home, part: Part) -> processes.Identity:
        return processes.spawn(
            [sys.executable, "-c", self.programs[part.name], str(home.port(part.name))],
            home=home,
            name=part.name,
            log=supervisor_state.log_file(home, part),
            die_with_parent=False,
        )

    def up(self) -> str:
        told = Told()
        asyncio.run(supervisor.bring_up(self.home, told))
        return told.text

    def pids(self) -> dict[str, int | None]:
        return {one.name: one.pid for one in asyncio.run(supervisor_state.status(self.home))}

    def kill(self, name: str) -> None:
        pid = self.pids()[name]
        assert pid
        identity = processes.identify(pid)
        assert identity
        os.kill(pid, signal.SIGKILL)
        assert processes.wait_gone([identity], timeout_s=5)

    def part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


@pytest.fixture
def stand(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    made = Stand(home)
    for module in (stack, supervisor, supervisor_state):
        monkeypatch.setattr(module, "PARTS", made.parts)
    monkeypatch.setattr(supervisor, "_start", made.start)
    monkeypatch.setattr(supervisor, "_furnish", nothing_to_furnish)
    yield made
    for process in processes.marked(home):
        processes.end(process.identity, grace_s=0)


async def nothing_to_furnish(_home: Home, _progress: object) -> None: ...


def test_a_start_returns_when_every_part_answers(stand: Stand) -> None:
    told = stand.up()
    services = asyncio.run(supervisor_state.status(stand.home))
    assert all(service.healthy for service in services)
    assert all(service.pss_mib > 1 for service in services)
    assert [name for name in NAMES if f"✓ {name}" in told] == list(NAMES)


def test_a_second_start_starts_only_what_is_missing(stand: Stand) -> None:
    stand.up()
    before = stand.pids()
    stand.kill("two")
    told = stand.up()
    after = stand.pids()
    assert after["two"] != before["two"]
    assert {name for name in NAMES if after[name] == before[name]} == {"one", "three"}
    assert "✓ two" in told
    assert "✓ one" not in told


def test_a_part_that_ends_is_named_with_its_last_words_and_stays_down(stand: Stand) -> None:
    stand.up()
    assert supervisor.crashed(stand.home) == []
    stand.kill("two")
    assert supervisor.crashed(stand.home) == [stand.part("two")]
    report = supervisor.crash_report(stand.home, stand.part("two"))
    assert "by signal 9" in report
    assert "    serving" in report
    assert stand.pids()["two"] is None


def test_a_failed_start_leaves_nothing_half_started(stand: Stand) -> None:
    stand.programs["three"] = FAILS
    with pytest.raises(StackError, match=r"three did not start(.|\n)*the disk ate my settings"):
        stand.up()
    assert processes.marked(stand.home) == []


def test_a_failed_start_leaves_alone_what_ran_before(stand: Stand) -> None:
    stand.up()
    before = stand.pids()
    stand.kill("three")
    stand.programs["three"] = FAILS
    with pytest.raises(StackError, match="three did not start"):
        stand.up()
    assert stand.pids() == {**before, "three": None}


def test_a_restart_replaces_one_part_and_leaves_the_others(stand: Stand) -> None:
    stand.up()
    before = stand.pids()
    told = Told()
    supervisor.restart(stand.home, "two", told)
    after = stand.pids()
    assert after["two"] not in (None, before["two"])
    assert {name for name in NAMES if after[name] == before[name]} == {"one", "three"}
    assert "✓ two" in told.text


def test_a_restart_that_fails_is_a_crash_and_the_next_one_heals_it(stand: Stand) -> None:
    stand.up()
    stand.programs["two"] = FAILS
    with pytest.raises(StackError, match=r"two did not start(.|\n)*the disk ate my settings"):
        supervisor.restart(stand.home, "two", Told())
    assert supervisor.crashed(stand.home) == [stand.part("two")]
    stand.programs["two"] = SERVES
    supervisor.restart(stand.home, "two", Told())
    assert supervisor.crashed(stand.home) == []
    assert stand.pids()["two"]


def test_a_part_that_never_answers_is_named(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.programs["two"] = "print('thinking', flush=True)\nimport time; time.sleep(60)"
    monkeypatch.setenv("KPAX_UP_TIMEOUT_S", "1")
    with pytest.raises(StackError, match=r"Not healthy in time: two(.|\n)*thinking"):
        stand.up()
    assert processes.marked(stand.home) == []


def test_a_taken_port_is_told_with_its_holder_before_anything_starts(stand: Stand) -> None:
    port = stand.home.port("two")
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=f"Port {port} of two is taken by pid {os.getpid()} "),
    ):
        stand.up()
    assert processes.marked(stand.home) == []
    stand.up()


def test_too_little_disk_is_told_before_anything_starts(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPAX_MIN_FREE_MIB", str(10**9))
    with pytest.raises(StackError, match=r"are free on the disk .* 1000000000 are needed"):
        stand.up()
    assert processes.marked(stand.home) == []


def test_two_starts_at_once_make_one_stack(stand: Stand) -> None:
    async def both() -> None:
        one, two = Told(), Told()
        await asyncio.gather(
            asyncio.to_thread(lambda: asyncio.run(supervisor.bring_up(stand.home, one))),
            asyncio.to_thread(lambda: asyncio.run(supervisor.bring_up(stand.home, two))),
        )
        assert "Another `kpax up`" in one.text + two.text

    asyncio.run(both())
    assert len(processes.marked(stand.home)) == len(NAMES)


def test_a_process_whose_starter_died_before_writing_is_found(stand: Stand) -> None:
    stand.up()
    before = stand.pids()
    supervisor_state.forget(stand.home, stand.part("one"))
    assert stand.pids() == before
    stand.up()
    assert stand.pids() == before


def test_a_leftover_child_of_a_killed_part_does_not_bar_the_next_start(stand: Stand) -> None:
    port = stand.home.port("one")
    stand.programs["one"] = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {SERVES!r}, '{port}'], start_new_session=True)\n"
        "time.sleep(60)"
    )
    stand.up()
    stand.kill("one")
    stand.programs["one"] = SERVES
    stand.up()
    assert len(processes.marked(stand.home)) == len(NAMES)


def test_everything_stops_in_its_turn_and_the_data_stays(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    end = processes.end

    def ending(identity: processes.Identity, *, grace_s: float) -> bool:
        ended.append(identity.pid)
        return end(identity, grace_s=grace_s)

    stand.up()
    pids = stand.pids()
    monkeypatch.setattr(processes, "end", ending)
    assert supervisor.take_down(stand.home, Told())
    assert ended == [pids[name] for name in NAMES]
    assert processes.marked(stand.home) == []
    assert supervisor.crashed(stand.home) == []
    assert (stand.home.root / "stack.json").exists()
    assert not supervisor.take_down(stand.home, Told())


def test_stopping_takes_along_what_a_killed_part_left(stand: Stand) -> None:
    stand.programs["one"] = (
        "import subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        + SERVES
    )
    stand.up()
    stand.kill("one")
    assert processes.marked(stand.home)
    supervisor.take_down(stand.home, Told())
    assert processes.marked(stand.home) == []


def test_disk_and_port_findings_say_what_to_do(home: Home) -> None:
    part = Part(name="x", ports=("x",), path="/", health_port="x")
    with (
        socket.create_server(("127.0.0.1", home.port("x"))),
        pytest.raises(StackError) as found,
    ):
        supervisor_checks.check_ports(home, [part])
    assert "kpax up" in found.value.remedy


def test_a_taken_port_of_a_vault_is_found_too(home: Home) -> None:
    vaults = next(part for part in PARTS if part.name == "key_vault")
    port = home.port("vault_kv-s-1")
    supervisor_checks.check_ports(home, [vaults])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            StackError, match=rf"Port {port} of key_vault \(vault_kv-s-1\) .* {os.getpid()} "
        ),
    ):
        supervisor_checks.check_ports(home, [vaults])


def test_a_wanted_size_of_disk_that_is_no_number_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPAX_MIN_FREE_MIB", "much")
    with pytest.raises(StackError, match="'much', which is no number"):
        supervisor_checks.check_disk(home)


# -- progress and settings -----------------------------------------------------------------------


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_colours_and_a_wheel_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    screen = Screen()
    lines = Lines(screen)
    lines.waiting(["broker"])
    lines.done("broker", 1.0)
    assert "broker" in screen.getvalue()
    assert ("\033[3" in screen.getvalue()) is coloured
    plain = Told()
    plain.waiting(["broker"])
    assert plain.text == ""
    plain.done("broker", 1.0)
    assert "\033" not in plain.text


def test_the_application_finds_every_setting_it_asks_for(home: Home) -> None:
    from spaces.settings import read  # noqa: PLC0415 — the product's own reader is the judge

    found = read(app_settings.app_settings(home))
    assert set(found.cluster_vaults) == set(found.backup_accounts) == set(app_settings.CLUSTERS)
    assert found.ca_file
    assert found.ca_file.exists()
    assert found.pg_bin
    assert (found.pg_bin / "pg_dump").exists()
    assert found.url_of("acme", "france").endswith(f":{home.port('front_door')}")
    assert app_settings.app_settings(home) == app_settings.app_settings(Home.open(home.root))


def test_a_file_in_the_home_stands_over_the_settings(home: Home) -> None:
    home.path("app_settings.json").write_text(json.dumps({"KPAX_POLL_FLOOR_S": "9"}))
    assert app_settings.app_settings(home)["KPAX_POLL_FLOOR_S"] == "9"


@pytest.mark.parametrize("text", ["{", "[]", '{"A": 1}'])
def test_a_malformed_file_of_settings_is_named(home: Home, text: str) -> None:
    home.path("app_settings.json").write_text(text)
    with pytest.raises(StackError, match=r"app_settings\.json is not"):
        app_settings.app_settings(home)
