"""A real broker process on a home of its own, and clients of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusReceiver,
    ServiceBusSender,
    ServiceBusSubQueue,
)
from azure.servicebus.management import ServiceBusAdministrationClient

from local.home import PROJECT, Home
from local.service_bus.connection import admin_connection_string, connection_string

if TYPE_CHECKING:
    from pathlib import Path


class PlainHttp(RequestsTransport):
    """The administration client always writes https; the broker speaks http."""

    def send(self, request: Any, **what: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **what)


class AioPlainHttp(AioHttpTransport):
    """The same for the asynchronous client."""

    async def send(self, request: Any, **what: Any) -> Any:
        request.url = request.url.replace("https://", "http://", 1)
        return await super().send(request, **what)


class Links:
    """Senders and receivers that are closed together, at the end: each takes a second to close."""

    def __init__(self, client: ServiceBusClient) -> None:
        self._client = client
        self._links: list[ServiceBusSender | ServiceBusReceiver] = []

    def sender(self, name: str) -> ServiceBusSender:
        """A sender."""
        sender = self._client.get_queue_sender(name)
        self._links.append(sender)
        return sender

    def receiver(self, name: str, **what: Any) -> ServiceBusReceiver:
        """A receiver."""
        receiver = self._client.get_queue_receiver(name, **what)
        self._links.append(receiver)
        return receiver

    def topic(self, name: str) -> ServiceBusSender:
        """A sender to a topic."""
        sender = self._client.get_topic_sender(name)
        self._links.append(sender)
        return sender

    def subscription(self, topic: str, name: str, **what: Any) -> ServiceBusReceiver:
        """A receiver from a subscription."""
        receiver = self._client.get_subscription_receiver(topic, name, **what)
        self._links.append(receiver)
        return receiver

    def both(self, name: str) -> tuple[ServiceBusSender, ServiceBusReceiver]:
        """A sender and a receiver."""
        return self.sender(name), self.receiver(name)

    def dead(self, name: str) -> ServiceBusReceiver:
        """A receiver of dead letters."""
        return self.receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER)

    def close(self) -> None:
        """Close all."""
        with ThreadPoolExecutor(max(1, len(self._links))) as pool:
            list(pool.map(lambda link: link.close(), self._links))
        self._client.close()


class Broker:
    """One home's broker: started, killed and started again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.home = Home.open(folder / "home")
        self.connection_string = connection_string(self.home)
        self.admin_string = admin_connection_string(self.home)
        self._log = folder / "broker.log"
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def start(self) -> None:
        """Start, and wait until it answers."""
        environment = {**os.environ, "KPAX_HOME": str(self.home.root), **self._environment}
        argv = [sys.executable, "-m", "local.service_bus"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=PROJECT, env=environment, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                self.get("/$namespaceinfo")
                return
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """End the process; says its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(10)
        self.process = None
        return code

    def stop(self) -> None:
        """End what is left of it."""
        if self.process is not None:
            self.kill(signal.SIGTERM)

    def get(self, path: str) -> bytes:
        """The body of an administration page."""
        port = self.home.port("service_bus_admin")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read()

    def client(self) -> ServiceBusClient:
        """An unmodified client that does not repeat what failed."""
        return ServiceBusClient.from_connection_string(self.connection_string, retry_total=0)

    def patient_client(self) -> ServiceBusClient:
        """An unmodified client that repeats what failed, soon."""
        return ServiceBusClient.from_connection_string(
            self.connection_string, retry_backoff_factor=0.05
        )

    def admin(self) -> ServiceBusAdministrationClient:
        """An administration client over plain http."""
        return ServiceBusAdministrationClient.from_connection_string(
            self.admin_string, transport=PlainHttp(), retry_total=0
        )

    def name(self) -> str:
        """A name that nothing has yet."""
        self._made += 1
        return f"test-{self._made}"

    def topic(self, *subscriptions: str, **settings: Any) -> str:
        """A new topic with these subscriptions; says its name."""
        name = self.name()
        with self.admin() as admin:
            admin.create_topic(name, **settings)
            for subscription in subscriptions:
                admin.create_subscription(name, subscription)
        return name

    def queue(self, **settings: Any) -> str:
        """A new queue; says its name."""
        name = self.name()
        settings.setdefault("lock_duration", timedelta(seconds=20))
        with self.admin() as admin:
            admin.create_queue(name, **settings)
        return name
