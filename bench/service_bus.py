"""How many messages a second the local broker carries through the unmodified sync SDK.

Each figure stands beside the same run on a broker that keeps nothing (`KPAX_BUS_STORE=memory`):
the ratio says what durability costs, and holds on any machine. Both brokers live on throw-away
homes; runs alternate, and the best of each counts, because the machine is shared.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from azure.servicebus import ServiceBusClient, ServiceBusMessage

from bench.kit import Figure, median
from local import processes
from local.home import PROJECT, Home
from local.service_bus.connection import connection_string

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = "backup-runs"
BODY = b"x" * 300
ROUNDS, MESSAGES = 5, 1_000
GOALS = {"sent one by one": 1_500, "sent in batches of 100": 5_000}
LEAST_RATIO = 0.6


class Broker:
    """A broker process on a home of its own."""

    def __init__(self, folder: Path, store: str) -> None:
        self.home = Home.open(folder / store)
        environment = {**os.environ, "KPAX_HOME": str(self.home.root), "KPAX_BUS_STORE": store}
        argv = [sys.executable, "-m", "local.service_bus"]
        self.process = subprocess.Popen(
            argv, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Return when it answers."""
        url = f"http://127.0.0.1:{self.home.port('service_bus_admin')}/$namespaceinfo"
        for _ in range(500):
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise SystemExit("the broker did not start")

    def client(self) -> ServiceBusClient:
        """A client of it."""
        return ServiceBusClient.from_connection_string(connection_string(self.home))

    def pss_mib(self) -> float:
        """Its memory."""
        return processes.pss_mib(self.process.pid)

    def cpu_s(self) -> float:
        """Processor time it has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def one_round(client: ServiceBusClient) -> Iterator[tuple[str, float]]:
    """(what, messages a second) of one round; the queue is empty before and after."""
    with client.get_queue_sender(QUEUE) as sender:
        begin = time.perf_counter()
        for _ in range(MESSAGES):
            sender.send_messages(ServiceBusMessage(BODY))
        yield "sent one by one", MESSAGES / (time.perf_counter() - begin)
        batches = MESSAGES // 100
        begin = time.perf_counter()
        for _ in range(batches):
            sender.send_messages([ServiceBusMessage(BODY) for _ in range(100)])
        yield "sent in batches of 100", batches * 100 / (time.perf_counter() - begin)
    with client.get_queue_receiver(QUEUE, prefetch_count=100) as receiver:
        left = MESSAGES + batches * 100
        begin = time.perf_counter()
        done = 0
        while done < left:
            for message in receiver.receive_messages(100, max_wait_time=10):
                receiver.complete_message(message)
                done += 1
        yield "received and completed one by one", done / (time.perf_counter() - begin)


def measure() -> list[Figure]:
    """Both stores in turn; the mode is that of the stack, or of `KPAX_BUS_SYNC`."""
    rates: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="kpax-bench-") as folder, ExitStack() as stops:
        brokers: dict[str, Broker] = {}
        for store in ("sqlite", "memory"):
            brokers[store] = Broker(Path(folder), store)
            stops.callback(brokers[store].stop)
            brokers[store].wait()
        idle = brokers["sqlite"].pss_mib()
        for _ in range(ROUNDS):
            for store, broker in brokers.items():
                with broker.client() as client:
                    for what, rate in one_round(client):
                        rates.setdefault(what, {}).setdefault(store, []).append(rate)
    mode = os.environ.get("KPAX_BUS_SYNC", "NORMAL")
    return [
        *(figure for what, row in rates.items() for figure in _figures(what, row, mode)),
        Figure("memory of an idle broker, PSS", idle, "MiB"),
    ]


def _figures(what: str, row: dict[str, list[float]], mode: str) -> list[Figure]:
    note = f"best of {ROUNDS} rounds of {MESSAGES}, {len(BODY)} bytes, synchronous={mode}"
    return [
        Figure(what, max(row["sqlite"]), "1/s", GOALS.get(what), note=note),
        Figure("… keeping nothing (baseline)", max(row["memory"]), "1/s"),
        Figure(
            "… durable, to keeping nothing",
            median(
                [
                    durable / bare
                    for durable, bare in zip(row["sqlite"], row["memory"], strict=True)
                ]
            ),
            "times",
            LEAST_RATIO,
            note="in turn, median of the pairs",
        ),
    ]
