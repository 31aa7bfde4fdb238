"""`kpax route verify`: what a token proves, and how the command exits."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import msgspec
import pytest
from typer.testing import CliRunner

from geo_router import keyset, proof, signed, tables
from geo_router.cli import route_app
from spaces import client
from spaces.errors import InvalidError
from tests.geo_router.builders import NOW, a_key, ask

if TYPE_CHECKING:
    from pathlib import Path

KEY = a_key()
SET = msgspec.to_builtins(keyset.published(KEY.public))


def a_token(now: datetime = NOW, key: signed.SigningKey = KEY, **claims: object) -> str:
    token = signed.issue(ask("DE"), key=key, now=now, jti="j-1")
    changed = jwt.decode(token, options={"verify_signature": False}) | claims
    return jwt.encode(changed, key.private, algorithm="EdDSA", headers={"kid": key.kid})


def proved(token: str, **arguments: Any) -> dict[str, Any]:
    given = {"keys": KEY.public, "now": NOW, "versions": {}, **arguments}
    return proof.proof(token, **given)


def test_a_good_token_tells_its_claims_and_the_rules_it_was_decided_by() -> None:
    told = proved(a_token(), request={"country": " de"})
    assert (told["valid"], told["signature"], told["reason"]) == (True, "good", None)
    assert told["claims"]["cluster"] == "france"
    rules = tables.load()
    assert told["data"] == {"hash": rules.hash, "version": rules.version, "current": True}
    assert "decided by rules" in proof.text(told)
    assert "2026-11-24T12:15:00Z" in proof.text(told)
    assert ask("DE")["request_hash"] in proof.text(told)


def test_an_old_edition_is_named_where_it_is_known() -> None:
    old = a_token(dv="sha256:old")
    assert proved(old)["data"] == {"hash": "sha256:old", "version": None, "current": False}
    known = proved(old, versions={"sha256:old": "2026.01.01-1"})
    assert known["data"]["version"] == "2026.01.01-1"
    assert "not the rules of now" in proof.text(known)


def test_an_expired_token_has_a_good_signature_and_still_tells() -> None:
    told = proved(a_token(), now=NOW + timedelta(days=7))
    assert (told["valid"], told["signature"], told["reason"]) == (False, "good", "expired")
    assert told["claims"]["cluster"] == "france"
    other = proved(a_token(), request={"country": "FR"})
    assert (other["signature"], other["reason"]) == ("good", "other-request")


def test_nothing_is_told_of_what_nobody_signed() -> None:
    head, body, signature = a_token().split(".")
    forged = proved(f"{head}.{body}.{signature[:-6]}AAAAAA")
    stranger = proved(a_token(key=a_key(2)))
    junk = proved("junk")
    assert [one["signature"] for one in (forged, stranger, junk)] == [
        "bad",
        "unknown-key",
        "unreadable",
    ]
    for one in (forged, stranger, junk):
        assert (one["claims"], one["data"], one["valid"]) == (None, None, False)


def test_a_set_of_keys_cannot_give_a_key_another_name() -> None:
    other = msgspec.to_builtins(keyset.published(a_key(2).public))
    other["keys"][0]["kid"] = KEY.kid
    assert keyset.read(other).keys() == a_key(2).public.keys()
    assert keyset.read(SET).keys() == KEY.public.keys()


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": [{"kty": "RSA", "x": "", "kid": "a"}]},
        {"keys": [{"x": "AAAA", "kid": "a"}]},
        {"keys": [{"x": "ä", "kid": "a"}]},
    ],
)
def test_what_is_no_set_of_keys_is_refused(document: object) -> None:
    with pytest.raises(InvalidError, match="no set of Ed25519 keys"):
        keyset.read(document)


def run(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(route_app, ["verify", *arguments], input=stdin)
    return result.exit_code, result.stdout


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("KPAX_API_URL", raising=False)
    monkeypatch.setattr(client, "_resolvers", [])
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(SET))
    return str(path)


def test_the_command_exits_by_what_it_found(keys: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    good, old = a_token(now), a_token(now - timedelta(days=1))
    code, printed = run(good, "--keys", keys, "--json")
    assert (code, json.loads(printed)["valid"]) == (0, True)
    assert run("-", "--keys", keys, stdin=f"{good}\n")[0] == 0
    assert "signature: good" in run(good, "--keys", keys)[1]
    for token, expected in (
        (old, 3),
        (good[:-8] + "AAAAAAAA", 3),
        (a_token(now, key=a_key(2)), 3),
        (a_token(now, aud="somebody"), 3),
        ("junk", 2),
        (a_token(now, exp="never"), 2),
    ):
        code, printed = run(token, "--keys", keys, "--json")
        assert (code, json.loads(printed)["valid"]) == (expected, False)
    request = tmp_path / "request.json"
    request.write_text('{"country":"DE"}')
    assert run(good, "--keys", keys, "--request", str(request))[0] == 0
    request.write_text('{"country":"FR"}')
    assert run(good, "--keys", keys, "--request", str(request))[0] == 3


def test_without_keys_the_running_stack_is_asked(
    keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = a_token(datetime.now(UTC))
    assert run(token)[0] == 6
    assert run(token, "--keys", str(tmp_path / "none.json"))[0] == 2

    class Stack(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/v1/route/keys"
            body = json.dumps(SET).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's
            """Say nothing."""

    with _serving(Stack) as server:
        monkeypatch.setenv("KPAX_API_URL", f"http://127.0.0.1:{server.server_port}")
        assert run(token)[0] == 0


class _serving:  # noqa: N801 - reads as a word at its one use
    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self) -> ThreadingHTTPServer:
        self.thread.start()
        return self.server

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
