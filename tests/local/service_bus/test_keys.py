"""Who is let in: signed tokens of the namespace and of entities."""

from __future__ import annotations

import time

import pytest

from local.service_bus.errors import BrokerError
from local.service_bus.model import AccessRule, Right
from local.service_bus.sas import Keyring, SharedKey
from tests.local.service_bus.peer import KEY, signature


def test_a_token_opens_its_path_and_what_lies_below() -> None:
    grant = KEY.check(signature("sb://host:1/Q"), time.time())
    assert [grant.covers(p, time.time()) for p in ("q", "Q/$DeadLetterQueue", "q2", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert KEY.check(signature("sb://host:1/"), time.time()).covers("anything", time.time())
    assert not grant.covers("q", time.time() + 61)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "Bearer x",
        "SharedAccessSignature sr=x",
        signature("sb://h/q", "wrong"),
        signature("sb://h/q", lasts_s=-1),
        signature("sb://h/q").replace("skn=kpax", "skn=other"),
        signature("sb://h/q").replace("%2Fq", "%2Fother"),
    ],
)
def test_a_token_that_is_not_ours_opens_nothing(token: str) -> None:
    with pytest.raises(Exception, match="Unauthorized"):
        KEY.check(token, time.time())


def test_a_key_of_an_entity_opens_that_entity_with_its_rights() -> None:
    rule = AccessRule(
        key_name="kpax", rights=("Listen",), primary_key="one", secondary_key="two"
    )
    asked: list[str] = []

    def rules(path: str) -> list[AccessRule]:
        asked.append(path)
        return [rule] if path.startswith("q") else []

    keys = Keyring(SharedKey("kpax", "secret"), rules)
    now = time.time()
    for key in ("one", "two"):
        grant = keys.check(signature("sb://host:1/Q", key), now)
        assert grant.covers("q/$management", now, Right.LISTEN)
        assert not grant.covers("q", now, Right.SEND)
        assert not grant.covers("other", now, Right.LISTEN)
    assert asked == ["q", "q"]
    for resource, key in (
        ("sb://host:1/other", "one"),
        ("sb://host:1/", "one"),
        ("sb://host:1/q", "x"),
    ):
        with pytest.raises(BrokerError):
            keys.check(signature(resource, key), now)
