"""A broker for all tests of a worker: they make queues of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.service_bus.process import Broker, Links

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker."""
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def links(broker: Broker) -> Iterator[Links]:
    """Links to it."""
    links = Links(broker.client())
    yield links
    links.close()
