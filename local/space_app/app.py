"""What the application answers: a small JSON API, health, and a page for people.

Requests other than health come through the front door, which names itself in a header; what
comes past it is refused, as a closed network would. A browser may change things only from this
space's own pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import msgspec
from aiohttp import web

from local.space_app import inputs, pages
from local.space_app.database import COLUMNS, UNREACHABLE, Database
from local.space_app.documents import BlobMissingError, Documents, StorageError
from local.space_app.problems import ProblemError
from local.space_app.settings import NoSettingsError, Settings, read_settings

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from local.space_app.settings import InstanceConfig

log = logging.getLogger("space_app")

_FAILURES = (*UNREACHABLE, asyncpg.PostgresError, StorageError)
_POLL_S = 0.2
# The front door may not know yet that an instance was just restarted: its requests wait so long.
_PATIENCE_S = 2.0
_OUT_OF_MEMORY = b"out of memory: this instance ends\n"
_DIED_OF_MEMORY = 137  # what a shell shows for a process that the kernel killed


class Space:
    """One instance's connections, once its settings are there and the database answers."""

    def __init__(self, config: InstanceConfig) -> None:
        self.config = config
        self.settings: Settings | None = None
        self.waiting_for = "its settings"
        self._database: Database | None = None
        self._documents: Documents | None = None
        self._opening: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    def begin(self) -> None:
        """Start to look for the settings, until `close`."""
        self._opening = asyncio.create_task(self._open_when_possible())

    async def close(self) -> None:
        """Let go of everything."""
        if self._opening:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._database:
            await self._database.close()
        if self._documents:
            await self._documents.close()

    async def wait(self) -> None:
        """Give an instance that has just started a moment to open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._opened.wait()

    @property
    def database(self) -> Database:
        """The database; a 503 problem while it is not open yet."""
        if self._database is None:
            raise ProblemError(503, "Starting", f"This instance waits for {self.waiting_for}.")
        return self._database

    @property
    def documents(self) -> Documents:
        """The container; a 503 problem while it is not known yet."""
        if self._documents is None:
            raise ProblemError(503, "Starting", f"This instance waits for {self.waiting_for}.")
        return self._documents

    async def _open_when_possible(self) -> None:
        while True:
            try:
                settings = await read_settings(self.config)
                documents = Documents(settings.storage)
                try:
                    database = await Database.open(settings.database)
                except BaseException:
                    await documents.close()
                    raise
            except NoSettingsError as error:
                self._wait_for(str(error))
            except (*UNREACHABLE, asyncpg.PostgresError) as error:
                self._wait_for(f"its database: {type(error).__name__}")
            except StorageError as error:
                self._wait_for(f"its storage: {error}")
            else:
                self._documents, self._database, self.settings = documents, database, settings
                self._opened.set()
                log.info("space.opened %s release %s", settings.space_id, settings.release)
                return
            # Settings are read anew each time: a correction in the vault is enough.
            await asyncio.sleep(_POLL_S)

    def _wait_for(self, what: str) -> None:
        if what != self.waiting_for:
            log.info("space.waits %s", what)
        self.waiting_for = what


SPACE = web.AppKey("space", Space)


def make_app(config: InstanceConfig) -> web.Application:
    """The application of one instance."""
    app = web.Application(middlewares=[_guard], client_max_size=inputs.JSON_BYTES)
    app[SPACE] = Space(config)
    app.cleanup_ctx.append(_space)
    app.add_routes([
        web.get("/healthz", _healthz),
        web.get("/api/{table:devices|readings|documents}", _list),
        web.post("/api/devices", _add_device),
        web.post("/api/readings", _add_reading),
        web.post("/api/documents", _add_document),
        web.get("/api/documents/{id}", _get_document),
        web.get("/", _page),
        web.get("/style.css", pages.style),
        web.post("/{table:devices|readings|documents}", _form),
    ])  # fmt: skip
    return app


async def _space(app: web.Application):  # noqa: ANN202 — aiohttp's cleanup context
    app[SPACE].begin()
    yield
    await app[SPACE].close()


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _check_origin(request)
        if request.path != "/healthz":
            await request.app[SPACE].wait()
        return await handler(request)
    except MemoryError:
        # Under rlimit allocations fail and nothing is killed: end as a machine without memory
        # would, so that another instance takes over.
        os.write(2, _OUT_OF_MEMORY)
        os._exit(_DIED_OF_MEMORY)
    except (ProblemError, web.HTTPException, *_FAILURES) as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        problem = _problem_of(error)
        if problem.status >= 500 and not isinstance(error, ProblemError):
            log.error("request.failed %s: %s", type(error).__name__, error)  # noqa: TRY400 — expected ways to fail
        if request.writer.output_size:
            raise  # half an answer is out: the connection ends, which the client notices
        answer = problem.response()
        if isinstance(error, web.HTTPMethodNotAllowed):
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


def _problem_of(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case web.HTTPException():
            return ProblemError(error.status, error.reason)
        case BlobMissingError():
            return ProblemError(500, "The document is recorded, but its content is gone")
        case StorageError():
            return ProblemError(503, "The storage does not answer")
        case asyncpg.PostgresError() if not isinstance(error, UNREACHABLE):
            return ProblemError(500, "The database could not do this: are its tables damaged?")
    return ProblemError(503, "The database does not answer")


def _check_origin(request: web.Request) -> None:
    wanted = request.app[SPACE].config.front_door_id
    if request.path == "/healthz" or not wanted:
        return
    given = request.headers.get("X-Azure-FDID", "")
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise ProblemError(
            403,
            "Only through the front door",
            "Use the address of the space, not an instance's.",
        )
    site = request.headers.get("Sec-Fetch-Site", "none")
    if request.method not in {"GET", "HEAD"} and site not in {"none", "same-origin"}:
        raise ProblemError(403, "Refused", "Another site's page may not change this space.")


async def _healthz(request: web.Request) -> web.Response:
    space = request.app[SPACE]
    body: dict[str, object] = {"instance": space.config.instance, "zone": space.config.zone}
    if space.settings is None:
        body["waiting_for"] = space.waiting_for
        return web.json_response(body, status=503)
    body |= {"release": space.settings.release, "space_id": space.settings.space_id}
    if not await space.database.answers():
        body["waiting_for"] = "its database"
        return web.json_response(body, status=503)
    return web.json_response(body)


async def _list(request: web.Request) -> web.StreamResponse:
    batches = request.app[SPACE].database.batches(request.match_info["table"])
    # The first rows come before the answer begins: a damaged table must not look like a list.
    first = await anext(batches, [])
    answer = web.StreamResponse()
    answer.content_type = "application/json"
    await answer.prepare(request)
    text = msgspec.json.encode(first)[1:-1]
    await answer.write(b"[" + text)
    async for rows in batches:
        await answer.write(b"," + msgspec.json.encode(rows)[1:-1])
    await answer.write_eof(b"]")
    return answer


async def _add_device(request: web.Request) -> web.Response:
    database = request.app[SPACE].database
    row = await database.add_device(await inputs.decoded(request, inputs.NewDevice))
    return web.json_response(row, status=201)


async def _add_reading(request: web.Request) -> web.Response:
    database = request.app[SPACE].database
    row = await database.add_reading(await inputs.decoded(request, inputs.NewReading))
    return web.json_response(row, status=201)


async def _add_document(request: web.Request) -> web.Response:
    row = await _stored_document(request)
    headers = {"Location": f"/api/documents/{row['id']}"}
    return web.json_response(row, status=201, headers=headers)


async def _stored_document(request: web.Request) -> dict[str, object]:
    space = request.app[SPACE]
    database, documents = space.database, space.documents
    upload = await inputs.upload(request)
    document_id = str(uuid.uuid4())
    # The bytes come first: a row without them would be a promise, bytes without a row are dust.
    size, sha256 = await documents.put(document_id, upload.content_type, upload.chunk)
    return await database.add_document(
        document_id,
        name=upload.name,
        content_type=upload.content_type,
        size=size,
        sha256=sha256,
    )


async def _get_document(request: web.Request) -> web.StreamResponse:
    space = request.app[SPACE]
    wanted = request.match_info["id"]
    # The database takes no NUL in a text, so there is no document of such a name.
    row = None if "\0" in wanted else await space.database.document(wanted)
    if row is None:
        raise ProblemError(404, "No such document")
    answer = web.StreamResponse(
        headers={
            "Content-Type": row["content_type"],
            "Content-Length": str(row["size"]),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row['name'], safe='')}",
            "ETag": f'"{row["sha256"]}"',
            # What customers stored is never run in the space's own name.
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        }
    )
    async with space.documents.get(row["id"]) as content:
        await answer.prepare(request)
        async for data in content.iter_chunked(64 * 1024):
            await answer.write(data)
    await answer.write_eof()
    return answer


async def _page(request: web.Request) -> web.Response:
    return await _shown(request)


async def _form(request: web.Request) -> web.Response:
    """The page's forms: the same as the API, answered with the page again."""
    database, table = request.app[SPACE].database, request.match_info["table"]
    try:
        if table == "documents":
            await _stored_document(request)
        elif table == "devices":
            await database.add_device(await inputs.form_of(request, inputs.NewDevice))
        else:
            await database.add_reading(await inputs.form_of(request, inputs.NewReading))
    except ProblemError as problem:
        if problem.status >= 500:
            raise
        return await _shown(request, refused=problem)
    raise web.HTTPSeeOther("/")


async def _shown(request: web.Request, refused: ProblemError | None = None) -> web.Response:
    space = request.app[SPACE]
    database, settings = space.database, space.settings
    assert settings is not None  # noqa: S101 — set together with the database
    latest = {table: await database.latest(table, pages.SHOWN) for table in COLUMNS}
    return pages.page(settings, space.config, latest, refused)
