"""What a request may bring: strictly decoded, refused with the place and the reason."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from typing import TYPE_CHECKING, Annotated, Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from local.space_app.problems import ProblemError

if TYPE_CHECKING:
    from aiohttp import web

JSON_BYTES = 64 * 1024
DOCUMENT_BYTES = 25 * 2**20
_ENVELOPE_BYTES = 16 * 1024  # boundaries and headers of a multipart body
_CHUNK_BYTES = 64 * 1024
_PLAIN = {"binary", "8bit", "7bit"}

# All that aiohttp's reader of multipart bodies raises on input it does not understand.
_MALFORMED = (ValueError, AssertionError, aiohttp.ClientError, HttpProcessingError)

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Short = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class NewDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device to be added."""

    name: Name
    serial: Short


class NewReading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reading of a known device; without `at` it is now."""

    device_id: Short
    value: float
    unit: Short
    at: Moment | None = None


class Upload:
    """The one part `file` of a multipart body, read piece by piece."""

    def __init__(
        self, reader: aiohttp.MultipartReader, part: aiohttp.BodyPartReader, name: str
    ) -> None:
        self._reader = reader
        self._part = part
        self.name = name
        self.content_type = _checked_type(
            part.headers.get("Content-Type", "application/octet-stream")
        )
        self.size = 0

    async def chunk(self) -> bytes:
        """The next bytes, empty at the end; refuses what is too long or followed by more."""
        try:
            data = await self._part.read_chunk(_CHUNK_BYTES)
            self.size += len(data)
            if self.size > DOCUMENT_BYTES:
                raise too_large()
            # Nothing is read only at the end; else a document would be cut and look whole.
            if not data and not self._part.at_eof():
                raise _bad_multipart("The body ends in the middle of the file.")
            if not data and await self._reader.next() is not None:
                raise _bad_multipart("The body has more parts than the one named `file`.")
        except _MALFORMED as error:
            raise _bad_multipart("The body is not well-formed multipart/form-data.") from error
        return data


async def decoded[T](request: web.Request, kind: type[T]) -> T:
    """The request's JSON body as `kind`."""
    if request.content_type != "application/json":
        raise ProblemError(
            415, "Unsupported media type", "Send the object as application/json."
        )
    body = await limited_body(request)
    try:
        return checked(msgspec.json.decode(body, type=kind))
    except msgspec.MsgspecError as error:
        raise invalid(error) from error
    except UnicodeError as error:
        raise ProblemError(400, "Invalid input", "The body is not UTF-8.") from error


async def form_of[T](request: web.Request, kind: type[T]) -> T:
    """The fields of a form as `kind`."""
    try:
        fields = dict(await request.post())
    except _MALFORMED as error:
        raise ProblemError(400, "Invalid input", "The body is not a form.") from error
    return converted(fields, kind)


def converted[T](fields: dict[str, Any], kind: type[T]) -> T:
    """The texts of a form as `kind`; a field left empty is not there."""
    try:
        filled = {name: value for name, value in fields.items() if value != ""}
        return checked(msgspec.convert(filled, type=kind, strict=False))
    except msgspec.MsgspecError as error:
        raise invalid(error) from error


def checked[T](value: T) -> T:
    """Refuse what no schema tells: control characters, blank texts, numbers without a value."""
    for field in value.__struct_fields__:  # type: ignore[attr-defined] — every input is a Struct
        found = getattr(value, field)
        if isinstance(found, str) and (not found.strip() or _has_control(found)):
            raise _wrong(field, "is blank or holds control characters")
        if isinstance(found, float) and not math.isfinite(found):
            raise _wrong(field, "is not a finite number")
        if isinstance(found, dt.datetime):
            try:
                found.astimezone(dt.UTC)
            except OverflowError as error:
                raise _wrong(field, "is out of range") from error
    return value


async def limited_body(request: web.Request) -> bytes:
    """The whole body, if it is small."""
    if (request.content_length or 0) > JSON_BYTES:
        raise ProblemError(413, "Too large", f"The body may have {JSON_BYTES} bytes.")
    body = bytearray()
    async for data in request.content.iter_chunked(_CHUNK_BYTES):
        body += data
        if len(body) > JSON_BYTES:
            raise ProblemError(413, "Too large", f"The body may have {JSON_BYTES} bytes.")
    return bytes(body)


async def upload(request: web.Request) -> Upload:
    """The part `file` of a multipart body, not read yet."""
    if request.content_type != "multipart/form-data":
        raise ProblemError(
            415, "Unsupported media type", "Send the file as multipart/form-data, part `file`."
        )
    if (request.content_length or 0) > DOCUMENT_BYTES + _ENVELOPE_BYTES:
        raise too_large()
    try:
        reader = await request.multipart()
        part = await reader.next()
    except _MALFORMED as error:
        raise _bad_multipart("The body is not well-formed multipart/form-data.") from error
    if not isinstance(part, aiohttp.BodyPartReader) or part.name != "file":
        raise _bad_multipart("The body has to begin with the part named `file`.")
    if part.headers.get("Content-Transfer-Encoding", "binary").lower() not in _PLAIN:
        raise _bad_multipart("The part `file` is encoded; send its bytes as they are.")
    return Upload(reader, part, _checked_filename(part.filename))


def too_large() -> ProblemError:
    """The document is over the limit."""
    return ProblemError(413, "Too large", f"A document may have {DOCUMENT_BYTES} bytes.")


def invalid(error: msgspec.MsgspecError) -> ProblemError:
    """What the decoder says, with the place as a JSON pointer."""
    text, _, path = str(error).partition(" - at `$")
    pointer = path.rstrip("`").replace(".", "/")
    return ProblemError(400, "Invalid input", text, pointer=pointer)


def _wrong(field: str, why: str) -> ProblemError:
    return ProblemError(400, "Invalid input", f"`{field}` {why}.", pointer=f"/{field}")


def _bad_multipart(detail: str) -> ProblemError:
    return ProblemError(400, "Invalid input", detail)


def _checked_filename(given: str | None) -> str:
    name = (given or "").replace("\\", "/").rpartition("/")[2].strip()
    if not name or len(name) > 255 or _has_control(name):
        raise _bad_multipart("The part `file` needs a filename of 1 to 255 characters.")
    return name


def _checked_type(given: str) -> str:
    kind = given.strip()
    if len(kind) > 200 or "/" not in kind or not kind.isascii() or _has_control(kind):
        raise _bad_multipart("The part `file` has no usable Content-Type.")
    return kind


def _has_control(text: str) -> bool:
    # Cs: half of a surrogate pair, which neither UTF-8 nor the database can hold.
    return any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
