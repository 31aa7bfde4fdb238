"""The few signed requests that make and unmake an account: list, delete, nothing more.

Shared Key as the storage services define it ("Authorize with Shared Key"); the SDKs would do it
too, at a price of 30 MiB in processes that need nothing else of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from email.utils import formatdate
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree  # only Azurite's own answers are parsed here

from local.errors import StackError

if TYPE_CHECKING:
    from local.azurite.accounts import Account

_VERSION = "2021-12-02"


def answers(account: Account) -> bool:
    """Whether both services are up and know this account."""
    try:
        return (
            _blob(account, "GET", "", {"comp": "list", "maxresults": "1"})[0] == 200
            and _table(account, "GET", "Tables")[0] == 200
        )
    except (OSError, HTTPException):
        return False


def empty(account: Account) -> None:
    """Delete every container and every table of the account."""
    while containers := _containers(account):
        for name in containers:
            status, body = _blob(account, "DELETE", name, {"restype": "container"})
            _expect(status, body, (202, 404), f"container {name} of {account.name}")
    while tables := _tables(account):
        for name in tables:
            status, body = _table(account, "DELETE", f"Tables('{quote(name)}')")
            _expect(status, body, (204, 404), f"table {name} of {account.name}")


def _containers(account: Account) -> list[str]:
    status, body = _blob(account, "GET", "", {"comp": "list"})
    _expect(status, body, (200,), f"the containers of {account.name}")
    root = ElementTree.fromstring(body)  # noqa: S314 — from the Azurite that this stack started
    return [element.text or "" for element in root.iterfind("./Containers/Container/Name")]


def _tables(account: Account) -> list[str]:
    status, body = _table(account, "GET", "Tables")
    _expect(status, body, (200,), f"the tables of {account.name}")
    return [row["TableName"] for row in json.loads(body)["value"]]


def _expect(status: int, body: bytes, good: tuple[int, ...], what: str) -> None:
    if status not in good:
        raise StackError(
            f"Azurite refused {what}: {status} {body[:300].decode(errors='replace')}"
        )


def _blob(account: Account, verb: str, path: str, query: dict[str, str]) -> tuple[int, bytes]:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
    canonical = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{account.name}/{account.name}/{path}"
    resource += "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    headers["Authorization"] = (
        f"SharedKey {account.name}:{_sign(account, verb + chr(10) * 12 + canonical + resource)}"
    )
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return _send(account.blob_endpoint, verb, f"{path}?{text}", headers)


def _table(account: Account, verb: str, path: str) -> tuple[int, bytes]:
    date = formatdate(usegmt=True)
    signature = _sign(account, f"{date}\n/{account.name}/{account.name}/{path}")
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2019-02-02",
        "Accept": "application/json;odata=nometadata",
        "Authorization": f"SharedKeyLite {account.name}:{signature}",
    }
    return _send(account.table_endpoint, verb, path, headers)


def _sign(account: Account, text: str) -> str:
    key = base64.b64decode(account.key)
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def _send(endpoint: str, verb: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    url = urlsplit(endpoint)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=10)
    try:
        connection.request(verb, f"{url.path}/{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
