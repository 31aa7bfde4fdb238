#!/usr/bin/env python3
"""Restore a space's backup with nothing but this file, the store, and the space's data key.

    python restore_standalone.py --store DIR --key-file F --at latest --out DIR

Needs Python 3.11, `cryptography`, and zstd (Python 3.14's own, or `backports.zstd`). It knows every
published version of the format: 1 (bundles) and 2 (block ranges). docs/backup-format.md describes
both byte by byte; nothing of the project is imported.

A store is a folder, or a container's URL with its signature (`?sv=...`), or with the account's key
in AZURE_STORAGE_KEY. OUT receives `files/`, `settings`, and the database as `database.sql` (load it
into an empty database: psql -X -v ON_ERROR_STOP=1 -f database.sql) or as `database.dump` (for
pg_restore). Exit codes: 0 done, 2 bad input, 3 OUT is not empty, 6 store not reachable, 7 damaged,
8 wrong key.
"""

import argparse
import base64
import hashlib
import hmac
import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from datetime import UTC, datetime
from email.utils import formatdate
from xml.etree import ElementTree

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

try:
    from compression import zstd  # pyright: ignore[reportMissingImports] — Python 3.14
except ImportError:
    from backports import zstd

BAD_INPUT, REFUSED, UNREACHABLE, DAMAGED, WRONG_KEY = 2, 3, 6, 7, 8
LARGEST = 8 << 20
MAKE_OBJECTS = b"""DO $_$
DECLARE one record; statement text;
BEGIN
    FOR one IN SELECT * FROM pg_temp.objects LOOP
        PERFORM pg_catalog.lo_create(one.id);
        FOREACH statement IN ARRAY coalesce(one.granted, '{}') LOOP
            EXECUTE statement;
        END LOOP;
        IF one.comment IS NOT NULL THEN
            EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', one.id, one.comment);
        END IF;
        EXECUTE format('ALTER LARGE OBJECT %s OWNER TO %I', one.id, one.owner);
    END LOOP;
END $_$;
"""


class Problem(Exception):  # noqa: N818 — one of many reasons, not a class of errors
    """Something that ends the restore; `code` is the exit code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def damaged(name, how, affects=""):
    return Problem(
        DAMAGED,
        f"object {name} is damaged: {how}" + (f"; affected: {affects}" if affects else ""),
    )


# ---------------------------------------------------------------- where objects lie


class Folder:
    def __init__(self, root):
        self.root = root

    def names(self):
        found = []
        for folder, _, files in os.walk(self.root):
            below = os.path.relpath(folder, self.root)
            found += [
                os.path.normpath(os.path.join(below, name)) for name in files if name[0] != "."
            ]
        return sorted(found)

    def read(self, name, offset=0, size=-1):
        try:
            with open(os.path.join(self.root, name), "rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            raise damaged(name, "it is missing") from None


class Container:
    """A container over HTTP: a signature in the URL, or the account's key in the environment."""

    WINDOW = 4 << 20

    def __init__(self, url):
        self.parts = urllib.parse.urlsplit(url)
        self.key = os.environ.get("AZURE_STORAGE_KEY", "")
        path = self.parts.path.strip("/").split("/")
        self.account = path[0] if len(path) > 1 else (self.parts.hostname or "").split(".")[0]
        self.windows = OrderedDict()

    def names(self):
        found, marker = [], ""
        while True:
            query = {
                "restype": "container",
                "comp": "list",
                **({"marker": marker} if marker else {}),
            }
            page = ElementTree.fromstring(self.get("", query, {}))
            found += [node.text for node in page.findall("Blobs/Blob/Name")]
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return sorted(found)

    def read(self, name, offset=0, size=-1):
        if size < 0:
            return self.get("/" + name, {}, {})
        for (other, start), data in self.windows.items():
            if other == name and start <= offset and offset + size <= start + len(data):
                return data[offset - start : offset - start + size]
        last = offset + max(size, self.WINDOW) - 1
        data = self.get("/" + name, {}, {"x-ms-range": f"bytes={offset}-{last}"})
        self.windows[name, offset] = data
        if len(self.windows) > 6:
            self.windows.popitem(last=False)
        return data[:size]

    def get(self, below, query, headers):
        path = self.parts.path.rstrip("/") + urllib.parse.quote(below)
        said = "&".join(filter(None, [self.parts.query, urllib.parse.urlencode(query)]))
        url = urllib.parse.urlunsplit((self.parts.scheme, self.parts.netloc, path, said, ""))
        headers = {
            **headers,
            "x-ms-version": "2021-08-06",
            "x-ms-date": formatdate(usegmt=True),
        }
        if self.key and "sig=" not in self.parts.query:
            headers["Authorization"] = self.signed(path, query, headers)
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=60
            ) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise damaged(below.lstrip("/") or "the container", "it is missing") from None
            if error.code == 416:
                return b""
            raise Problem(
                UNREACHABLE, f"the container answers {error.code} {error.reason}"
            ) from None
        except urllib.error.URLError as error:
            raise Problem(
                UNREACHABLE, f"the container does not answer: {error.reason}"
            ) from None

    def signed(self, path, query, headers):
        kept = sorted(
            (name.lower(), value) for name, value in headers.items() if name.startswith("x-ms-")
        )
        resource = f"/{self.account}{path}" + "".join(
            f"\n{n}:{query[n]}" for n in sorted(query)
        )
        text = "GET" + "\n" * 12 + "".join(f"{n}:{v}\n" for n, v in kept) + resource
        code = hmac.digest(base64.b64decode(self.key), text.encode(), "sha256")
        return f"SharedKey {self.account}:{base64.b64encode(code).decode()}"


# ---------------------------------------------------------------- keys and frames


def derived(key, purpose, version, salt, name=""):
    info = f"kpax backup {purpose} v{version}\0{name}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt or None, info=info).derive(key)


def unsealed(cipher, name, number, sealed):
    try:
        return cipher.decrypt(number.to_bytes(12, "big"), sealed, name.encode())
    except (InvalidTag, ValueError):
        raise damaged(name, f"frame {number} is not what was stored") from None


def plain_of(coding, data, prefix, name):
    """Undo a frame's coding: 0 stored, 1 zstd, 2 zstd against a prefix (with a checksum)."""
    if coding == 0:
        return data
    try:
        dictionary = zstd.ZstdDict(prefix, is_raw=True).as_prefix if coding == 2 else None
        opener = (
            zstd.ZstdDecompressor(zstd_dict=dictionary)
            if dictionary
            else zstd.ZstdDecompressor()
        )
        plain = opener.decompress(data, max_length=LARGEST + 1)
    except (zstd.ZstdError, ValueError) as error:
        raise damaged(name, f"a frame does not decompress ({error})") from None
    if not opener.eof or len(plain) > LARGEST:
        raise damaged(name, "a frame does not end where it should")
    return plain


# ---------------------------------------------------------------- format 2


class Manifest2:
    """A manifest of format 2: clear header, sealed sections, perhaps as a difference of a base."""

    def __init__(self, store, key, name, sha256=None):
        self.name, self.raw = name, store.read(name)
        if self.raw[:8] != b"KPAXMAN2":
            raise damaged(name, "it does not begin as a manifest")
        if sha256 and hashlib.sha256(self.raw).hexdigest() != sha256:
            raise damaged(name, "it is not the manifest that another one builds on")
        end = 12 + int.from_bytes(self.raw[8:12], "big")
        salt, code = self.raw[end : end + 32], self.raw[end + 32 : end + 64]
        expected = hmac.digest(
            derived(key, "manifest header", 2, salt, name), self.raw[: end + 32], "sha256"
        )
        if not hmac.compare_digest(code, expected):
            raise damaged(name, "its header is not what was stored")
        self.header = json.loads(self.raw[12:end])
        self.start = end + 64
        if len(self.raw) != self.start + self.header["body_size"]:
            raise damaged(name, "it is cut off, or longer than it was")
        self.cipher = AESGCM(derived(key, "manifest", 2, salt, name))
        base = self.header.get("base")
        self.base = Manifest2(store, key, base["name"], base["sha256"]) if base else None
        listing = plain_of(1, self.frame(*self.header["directory"]), None, name)
        self.places = {place[0]: place for place in json.loads(listing)}
        before = self.base.header.get("packs", []) if self.base else []
        self.packs = before[: self.header.get("packs_from", 0)] + self.header.get("packs", [])

    def frame(self, number, offset, size):
        return unsealed(self.cipher, self.name, number, self.raw[self.start + offset :][:size])

    def read(self, section):
        _, _, number, offset, size, coding = self.places[section]
        before = self.base.read(section) if coding in {-1, 2} and self.base else None
        if coding == -1:
            return before
        return plain_of(coding, self.frame(number, offset, size), before, self.name)

    def read_long(self, section):
        parts = []
        while f"{section}/{len(parts)}" in self.places:
            parts.append(self.read(f"{section}/{len(parts)}"))
        return b"".join(parts) if parts else None


class Frames2:
    """Reads frames of packs; the newest few stay in memory, because small files share them."""

    def __init__(self, store, key, packs):
        self.store, self.key, self.packs = store, key, packs
        self.ciphers, self.kept = {}, OrderedDict()

    def get(self, piece, prefix=None, affects=""):
        pack, number, offset, size, coding = piece
        place = (pack, number)
        if place in self.kept:
            return self.kept[place]
        name = self.packs[pack][0]
        try:
            if name not in self.ciphers:
                head = self.store.read(name, 0, 40)
                if len(head) != 40 or head[:8] != b"KPAXPAK2":
                    raise damaged(name, "it does not begin as a pack")
                self.ciphers[name] = AESGCM(derived(self.key, "pack", 2, head[8:], name))
            sealed = self.store.read(name, offset, size)
            plain = plain_of(
                coding, unsealed(self.ciphers[name], name, number, sealed), prefix, name
            )
        except Problem as problem:
            raise Problem(problem.code, f"{problem}; affected: {affects}") from None
        self.kept[place] = plain
        if len(self.kept) > 4:
            self.kept.popitem(last=False)
        return plain

    def text(self, frame, affects):
        """A frame of the database: a whole piece, then deltas, each against the one before."""
        size, _, _, chain = frame
        plain = None
        for piece in chain:
            plain = self.get(piece, plain, affects)
        if plain is None or len(plain) != size:
            raise damaged("its manifest", "a frame has another length than it says", affects)
        return plain


def check_key_2(store, key):
    raw = store.read("k/check")
    said, checksum = raw[:-32], raw[-32:]
    if len(raw) != 104 or raw[:8] != b"KPAXKCV2" or hashlib.sha256(said).digest() != checksum:
        raise damaged("k/check", "it is not a key-check value")
    if said[40:] != derived(key, "key check", 2, said[8:40]):
        raise Problem(WRONG_KEY, "the key does not open this store")


def find_2(store, key, names, at):
    numbers = sorted(name for name in names if is_second(name))
    check_key_2(store, key)
    if at != "latest":
        own = (
            [f"s/{at[:8]}"] if at[8:9] == "-" and at[:8].isdigit() else list(reversed(numbers))
        )
        for name in own:
            if (
                name in numbers
                and (found := Manifest2(store, key, name)).header["backup_id"] == at
            ):
                return found
        raise Problem(BAD_INPUT, f"the store holds no snapshot {at}")
    heads = sorted(name for name in names if name.startswith("j/") and name.endswith("/head"))
    head = head_of(store, key, heads[-1]) if heads else None
    if head and head["name"] not in numbers and not is_over(head["keep_until"]):
        raise damaged(head["name"], "it is missing, and was the newest manifest")
    for name in reversed(numbers):
        manifest = Manifest2(store, key, name)
        if (
            head
            and head["name"] == name
            and hashlib.sha256(manifest.raw).hexdigest() != head["sha256"]
        ):
            raise damaged(name, "it is not the manifest that its run published")
        if manifest.header["state"] == "complete":
            return manifest
    raise Problem(BAD_INPUT, "the store holds no complete snapshot")


def is_second(name):
    return name[:2] == "s/" and len(name) == 10 and name[2:].isdigit()


def head_of(store, key, name):
    """What the run of the newest manifest left word of; a damaged head says nothing."""
    raw = store.read(name)
    try:
        cipher = AESGCM(derived(key, "object", 2, raw[8:40], name))
        return json.loads(unsealed(cipher, name, 0, raw[40:]))
    except (Problem, ValueError):
        return None


def is_over(until):
    return datetime.fromisoformat(until.replace("Z", "+00:00")) < datetime.now(UTC)


def restore_2(store, key, manifest, out):
    # Digests of packs and files are BLAKE3's and not compared: every frame is authenticated as it
    # is read, and a difference carries zstd's checksum.
    frames = Frames2(store, key, manifest.packs)
    part = manifest.read_long("database")
    if part is not None:
        write_database(frames, json.loads(part), out)
    if "files" in manifest.places:
        write_files(frames, manifest, os.fsencode(os.path.join(out, "files")))
    settings = manifest.read_long("settings")
    if settings is not None:
        with open(os.path.join(out, "settings"), "wb") as file:
            file.write(settings)


def write_database(frames, part, out):
    if part.get("dump") is not None:
        with open(os.path.join(out, "database.dump"), "wb") as file:
            for frame in part["dump"]:
                file.write(frames.text(frame, "the database"))
        return
    with open(os.path.join(out, "database.sql"), "wb") as file:
        for role in part["roles"]:
            if not role.startswith("pg_"):
                quoted = '"' + role.replace('"', '""') + '"'
                file.write(
                    f"DO $_$ BEGIN CREATE ROLE {quoted} NOLOGIN; "
                    f"EXCEPTION WHEN duplicate_object THEN NULL; END $_$;\n".encode()
                )
        for frame in part["schema"]["before"]:
            file.write(frames.text(frame, "definitions of the database"))
        for table in part["tables"]:
            columns = f"({', '.join(table['columns'])}) " if table["columns"] else ""
            write_rows(file, frames, table, f"{table['name']} {columns}", part["encoding"])
        write_large_objects(file, frames, part)
        for name, value, is_called in part["sequences"]:
            quoted = name.replace("'", "''")
            file.write(
                f"SELECT pg_catalog.setval('{quoted}', {value}, {str(is_called).lower()});\n".encode()
            )
        for frame in part["schema"]["after"]:
            file.write(frames.text(frame, "definitions of the database"))


def write_large_objects(file, frames, part):
    """The list of them (id, owner, comment, privileges), then their bytes, as COPY text of both."""
    listed, pages = part.get("large_object_list"), part.get("large_objects")
    if listed:
        file.write(
            b"CREATE TEMPORARY TABLE objects (id oid, owner text, comment text, granted text[]);"
        )
        write_rows(file, frames, listed, "pg_temp.objects ", part["encoding"])
        file.write(MAKE_OBJECTS)
    if pages:
        file.write(b"CREATE TEMPORARY TABLE pages (loid oid, at bigint, data bytea);")
        write_rows(file, frames, pages, "pg_temp.pages ", part["encoding"])
        file.write(b"SELECT count(pg_catalog.lo_put(loid, at, data)) FROM pg_temp.pages;\n")


def write_rows(file, frames, table, target, encoding):
    file.write(f"\nCOPY {target}FROM stdin WITH (ENCODING '{encoding}');\n".encode())
    for _, _, _, _, _, parts in table["segments"]:
        for frame in parts:
            file.write(frames.text(frame, f"table {table['name']}"))
    file.write(b"\\.\n")


def write_files(frames, manifest, root):
    os.mkdir(root)
    folders, links = [], []
    for section in sorted(name for name in manifest.places if name.startswith("files/")):
        for entry in json.loads(manifest.read(section)):
            path, kind, _, _, _, _, _, _, target = entry[:9]
            if b".." in unquoted(path).split(b"/"):
                raise damaged(manifest.name, f"the path {path} leads out of the folder")
            whole = root if path == "." else root + b"/" + unquoted(path)
            if kind == "d":
                os.makedirs(whole, mode=0o700, exist_ok=True)
                folders.append((whole, entry))
            elif kind == "h":
                links.append((root + b"/" + unquoted(target), whole))
            else:
                make(frames, whole, entry)
                dress(whole, entry)
    for first, whole in links:
        os.link(first, whole)
    for whole, entry in reversed(folders):
        dress(whole, entry)


def make(frames, whole, entry):
    path, kind, _, _, _, _, _, size, target, _, chunks = entry
    if kind == "f":
        write_file(frames, whole, path, size, chunks)
    elif kind == "l":
        os.symlink(unquoted(target), whole)
    elif kind == "p":
        os.mkfifo(whole, 0o600)
    else:
        raise damaged("its manifest", f"an entry of an unknown kind {kind}", path)


def write_file(frames, whole, path, size, chunks):
    with open(whole, "xb") as file:
        for piece, inner, length, _ in chunks:
            file.write(frames.get(piece, affects=f"file {path}")[inner : inner + length])
        if file.tell() != size:
            raise damaged("its manifest", "chunks do not make the file", path)


def dress(whole, entry):
    _, kind, mode, uid, gid, mtime = entry[:6]
    if os.geteuid() == 0:
        os.chown(whole, uid, gid, follow_symlinks=False)
    if kind != "l":
        os.chmod(whole, mode)
    os.utime(whole, ns=(mtime, mtime), follow_symlinks=False)


def unquoted(text):
    return urllib.parse.unquote_to_bytes(text[1:]) if text.startswith("%") else text.encode()


# ---------------------------------------------------------------- format 1


def manifest_1(store, key, name):
    document, _, code = store.read(name).rpartition(b"\n")
    expected = hmac.digest(derived(key, "manifest", 1, b"", name), document, "sha256").hex()
    if not hmac.compare_digest(code, expected.encode()):
        raise damaged(name, "its authentication code does not fit")
    return json.loads(document)


def find_1(store, key, names, at):
    found = [name for name in names if name.startswith("s/bkp-")]
    wanted = [name for name in found if at in {"latest", name[2:]}]
    if not wanted:
        raise Problem(BAD_INPUT, f"the store holds no backup {at}")
    try:
        return manifest_1(store, key, wanted[-1])
    except Problem:
        if any(opens_1(store, key, name) for name in found):
            raise
        raise Problem(WRONG_KEY, "the key opens no manifest of this store") from None


def opens_1(store, key, name):
    try:
        manifest_1(store, key, name)
    except Problem:
        return False
    return True


def object_1(store, key, ref):
    """The plain bytes of a sealed object, frame by frame."""
    name, raw = ref["name"], store.read(ref["name"])
    if len(raw) != ref["size_bytes"] or hashlib.sha256(raw).hexdigest() != ref["sha256"]:
        raise damaged(name, "its bytes are not what was stored")
    head, body = raw[:40], io.BytesIO(raw[40:])
    cipher = AESGCM(derived(key, "object", 1, head[8:], name))
    sealed, number = body.read((1 << 20) + 16), 0
    while sealed:
        following = body.read((1 << 20) + 16)
        place = number.to_bytes(11, "big") + bytes([not following])
        try:
            yield cipher.decrypt(place, sealed, head + name.encode() + b"\0" + place)
        except InvalidTag:
            raise damaged(name, f"frame {number} is not what was stored") from None
        sealed, number = following, number + 1


def restore_1(store, key, manifest, out):
    contents = json.loads(b"".join(object_1(store, key, manifest["contents"])))
    with open(os.path.join(out, "database.dump"), "wb") as file:
        for frame in object_1(store, key, contents["dump"]):
            file.write(frame)
    with open(os.path.join(out, "settings"), "w", encoding="utf-8") as file:
        json.dump(contents["settings"], file, ensure_ascii=False)
    root = os.path.join(out, "files")
    os.mkdir(root)
    for number, pack in enumerate(contents["packs"]):
        data = io.BytesIO(b"".join(object_1(store, key, pack)))
        for one in contents["attachments"]:
            if one["pack"] != number:
                continue
            content = data.read(one["size_bytes"])
            if hashlib.sha256(content).hexdigest() != one["sha256"]:
                raise damaged(pack["name"], "an attachment is not what was stored", one["name"])
            if ".." in one["name"].split("/"):
                raise damaged(
                    manifest["backup_id"], f"the name {one['name']} leads out of the folder"
                )
            path = os.path.join(root, one["name"].lstrip("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(content)


# ---------------------------------------------------------------- the command


def restore(options):
    with open(options.key_file, "rb") as file:
        key = file.read()
    if len(key) != 32:
        raise Problem(BAD_INPUT, "a data key has 32 bytes")
    if os.path.isdir(options.out) and os.listdir(options.out):
        raise Problem(REFUSED, f"{options.out} is not empty")
    url = options.store.startswith(("http://", "https://"))
    store = Container(options.store) if url else Folder(options.store)
    names = store.names()
    is_first = f"s/{options.at}" in names or not any(map(is_second, names))
    is_first = is_first and any(name.startswith("s/bkp-") for name in names)
    find, bring = (find_1, restore_1) if is_first else (find_2, restore_2)
    if not any(name.startswith(("s/", "j/")) for name in names):
        raise Problem(BAD_INPUT, f"{options.store} holds no backup")
    manifest = find(store, key, names, options.at)
    os.makedirs(options.out, exist_ok=True)
    bring(store, key, manifest, options.out)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", required=True, metavar="DIR|URL")
    parser.add_argument("--key-file", required=True, metavar="F", help="32 raw bytes")
    parser.add_argument(
        "--at", default="latest", metavar="ID", help="latest, or a snapshot's id"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="an empty folder")
    try:
        restore(parser.parse_args())
    except Problem as problem:
        sys.stderr.write(f"Error: {problem}\n")
        return problem.code
    except OSError as error:
        sys.stderr.write(f"Error: {error}\n")
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
