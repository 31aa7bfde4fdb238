"""Each port as a fixture with two parameters: the fake, and the adapter on a real part."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from local.home import Home
from local.resource_manager.cloud import Identities
from spaces.adapters.wire import Wire
from tests.conformance.arm_rig import RealRig, adapter, start
from tests.conformance.parts import Parts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Parts of the local stack, started when first asked for, ended with the run."""
    folder = tmp_path_factory.mktemp("conformance-home")
    started = Parts(Home.open(folder))
    try:
        yield started
    finally:
        started.stop_all()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    opened = Wire()
    yield opened
    await opened.close()


@pytest.fixture
def unique() -> str:
    """A name that no other test has: letters and digits."""
    return f"t{uuid.uuid4().hex[:20]}"


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of this machine that nobody listens on, kept free while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
async def real_arm(parts: Parts, wire: Wire) -> AsyncIterator[RealRig]:
    endpoint = await asyncio.to_thread(start, parts)
    subscription = parts.home.value("subscription_id", lambda: str(uuid.uuid4()))
    arm = adapter(
        wire,
        endpoint,
        token=parts.home.secret("token"),
        subscription=subscription,
        principal=Identities(parts.home).principal("control-plane"),
    )
    rig = RealRig(parts, arm)
    yield rig
    rig.file.unlink(missing_ok=True)
    await arm.close()
