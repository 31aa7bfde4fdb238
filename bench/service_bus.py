"""How many messages a second the local broker carries through the unmodified sync SDK.

    python bench/service_bus.py [--json] [--messages N]

Each figure stands beside the same run on a broker that keeps nothing (`KPAX_BUS_STORE=memory`):
the ratio says what durability costs, and holds on any machine. Both brokers live on throw-away
homes; runs alternate, and the best of each counts, because the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from azure.servicebus import ServiceBusClient, ServiceBusMessage  # noqa: E402

from local.home import Home  # noqa: E402
from local.service_bus.connection import connection_string  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = "backup-runs"
BODY = b"x" * 300
ROUNDS = 3


class Broker:
    """A broker process on a home of its own."""

    def __init__(self, folder: Path, store: str) -> None:
        self._home = Home.open(folder / store)
        environment = {**os.environ, "KPAX_HOME": str(self._home.root), "KPAX_BUS_STORE": store}
        argv = [sys.executable, "-m", "local.service_bus"]
        self.process = subprocess.Popen(
            argv, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        url = f"http://127.0.0.1:{self._home.port('service_bus_admin')}/$namespaceinfo"
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
        return ServiceBusClient.from_connection_string(connection_string(self._home))

    def pss_mib(self) -> float:
        """Its memory."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="ascii")
        line = next(line for line in text.splitlines() if line.startswith("Pss:"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def measure(client: ServiceBusClient, messages: int) -> Iterator[tuple[str, float]]:
    """(what, messages a second) of one round; the queue is empty before and after."""
    with client.get_queue_sender(QUEUE) as sender:
        begin = time.perf_counter()
        for _ in range(messages):
            sender.send_messages(ServiceBusMessage(BODY))
        yield "one_by_one", messages / (time.perf_counter() - begin)
        batches = messages // 100
        begin = time.perf_counter()
        for _ in range(batches):
            sender.send_messages([ServiceBusMessage(BODY) for _ in range(100)])
        yield "batched_100", batches * 100 / (time.perf_counter() - begin)
    with client.get_queue_receiver(QUEUE, prefetch_count=100) as receiver:
        left = messages + batches * 100
        begin = time.perf_counter()
        done = 0
        while done < left:
            for message in receiver.receive_messages(100, max_wait_time=10):
                receiver.complete_message(message)
                done += 1
        yield "receive_and_complete", done / (time.perf_counter() - begin)


def run(messages: int) -> tuple[dict[str, dict[str, float]], float]:
    """The figures of both stores with their ratio, and the memory of an idle broker."""
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="kpax-bench-") as folder:
        brokers = {store: Broker(Path(folder), store) for store in ("sqlite", "memory")}
        try:
            idle = brokers["sqlite"].pss_mib()
            for _ in range(ROUNDS):
                for store, broker in brokers.items():
                    with broker.client() as client:
                        for what, rate in measure(client, messages):
                            row = best.setdefault(what, {})
                            row[store] = max(row.get(store, 0), round(rate))
        finally:
            for broker in brokers.values():
                broker.stop()
    for row in best.values():
        row["ratio"] = round(row["sqlite"] / row["memory"], 2)
    return best, round(idle, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--messages", type=int, default=1_000, help="per round and figure")
    options = parser.parse_args()
    mode = os.environ.get("KPAX_BUS_SYNC", "NORMAL")
    figures, idle = run(max(100, options.messages))
    if options.json:
        answer = {"synchronous": mode, "messages_per_s": figures, "idle_pss_mib": idle}
        print(json.dumps(answer))
        return
    print(f"messages per second, 300-byte bodies, SQLite synchronous={mode}, sync SDK")
    for what, row in figures.items():
        print(f"  {what:<22}" + "".join(f"{name:>8} {value:>8}" for name, value in row.items()))
    print(f"memory of an idle broker: {idle} MiB PSS")


if __name__ == "__main__":
    main()
