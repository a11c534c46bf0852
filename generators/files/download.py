"""Checkpoints from addresses, each fetched once: kept under its sha256 in the user's cache.

A note beside it says what an address held and by which mark (ETag or date) the server knows it, so that the
next use asks whether it has changed and fetches nothing. Where the server cannot be reached, what is kept is
used. Nothing here runs for a name that a file holds: callers pass what a user typed.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from generators.files import atomic, cache, checkpoint
from generators.files.addresses import SUFFIX, Address, is_address, origin, parse
from generators.files.checkpoint import CheckpointError

MAX_BYTES = 8 << 30  # eight times the largest that is known
BLOCK = 1 << 20
TIMEOUT_S = 30.0  # without a byte
LEAST_SPEED = 1000.0  # bytes a second, on the average of each of the following periods
PERIOD_S = 30.0  # after which its speed is looked at, and told how far it is
N_ATTEMPTS = 3
PAUSE_S = 1.0  # before the second attempt; twice as long before each further one
_BUSY = (429, 500, 502, 503, 504)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BY_HAND = "download it yourself, then pass its path"


@dataclass(frozen=True)
class _Note:
    """What an address held when it was last fetched."""

    sha256: str
    etag: str = ""
    modified: str = ""

    def is_of(self, headers: Any) -> bool:
        """Whether a server's answer is the same content, by the mark that it has."""
        if self.etag:
            return self.etag == headers.get("ETag")
        return bool(self.modified) and self.modified == headers.get("Last-Modified")


class _Unreachable(Exception):
    """No answer, or none that says anything of the file; the text is why."""


def local(path: str | os.PathLike) -> Path:
    """A file on this machine: the path itself, or what is at an address, from the cache or fetched.

    Raises:
        CheckpointError: it cannot be had, in one sentence that says what to do.
    """
    return _file(parse(path)) if isinstance(path, str) and is_address(path) else Path(path)


def pinned(address: str) -> str:
    """The address with the sha256 of what it holds now, so that nothing else is taken from it later.

    Raises:
        CheckpointError: as :func:`local`.
    """
    parsed = parse(address)
    return replace(parsed, sha256=_file(parsed).stem).pinned


def kept(address: str) -> Path | None:
    """What a pinned address held, where it is in the cache; no server is asked."""
    digest = re.search(r"#sha256=([0-9a-f]{64})$", address)
    if digest is None:
        return None
    path = _folder() / f"{digest[1]}{SUFFIX}"
    return path if path.is_file() else None


def _folder() -> Path:
    try:
        return cache.folder("models")
    except RuntimeError:
        raise CheckpointError(
            "there is no home folder to keep downloads in; set XDG_CACHE_HOME to a folder for them"
        ) from None


def _file(address: Address) -> Path:
    path = kept(address.pinned)
    if path is not None:
        return path
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, address):
            return _asked(address, folder)
    except OSError as error:
        raise checkpoint.not_written(folder, error) from None


@contextmanager
def _alone(folder: Path, address: Address) -> Iterator[None]:
    """One process of this machine at a time for each address: the others find what it fetched."""
    with open(folder / f"{_key(address)}.lock", "w") as file:
        with suppress(OSError):  # file systems without locks: it may be fetched twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(address: Address) -> str:
    return hashlib.sha256(address.url.encode()).hexdigest()[:32]


def _asked(address: Address, folder: Path) -> Path:
    """What the address holds now, by asking its server unless it cannot have changed."""
    path = kept(address.pinned)  # another process may have fetched it meanwhile
    if path is not None:
        return path
    note = _note(folder, address)
    there = None if note is None else folder / f"{note.sha256}{SUFFIX}"
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if there is not None and (address.is_fixed or is_offline):
        return there
    if is_offline:
        raise CheckpointError(
            f"{address.shown} is not in {folder}, and HF_HUB_OFFLINE forbids to fetch it; unset it, or "
            f"{_BY_HAND}"
        )
    try:
        return _fetched(address, folder, note)
    except _Unreachable as error:
        if there is None:
            raise CheckpointError(
                f"{address.shown} could not be downloaded ({error}); try again later, or {_BY_HAND}"
            ) from None
        warnings.warn(
            f"{address.shown} could not be asked for ({error}); the copy fetched before is used",
            stacklevel=2,
        )
        return there


def _note(folder: Path, address: Address) -> _Note | None:
    """Of what is kept of an address; None where there is nothing, or other content is wanted."""
    try:
        note = _Note(**json.loads((folder / f"{_key(address)}.json").read_bytes()))
        texts = note.sha256, note.etag, note.modified
        is_sound = all(isinstance(t, str) and t.isprintable() and t.isascii() for t in texts)
        if not is_sound or not _SHA256.fullmatch(note.sha256):
            return None
    except (OSError, ValueError, TypeError):
        return None
    is_wanted = address.sha256 in (None, note.sha256)
    return note if is_wanted and (folder / f"{note.sha256}{SUFFIX}").is_file() else None


def _fetched(address: Address, folder: Path, note: _Note | None) -> Path:
    for attempt in range(N_ATTEMPTS):
        try:
            with _answer(address, note) as answer:
                if note is not None and (answer.status == 304 or note.is_of(answer.headers)):
                    return folder / f"{note.sha256}{SUFFIX}"
                return _stored(answer, address, folder)
        except _Unreachable:
            if attempt == N_ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To web addresses only, never from https to http; a token goes back to its own origin alone."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The request that follows; urllib calls this."""
        scheme = origin(newurl)[0]
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise CheckpointError(
                f"{self._address.shown} leads on to a {scheme}:// address, which is not followed; {_BY_HAND}"
            )
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            _authorize(following, self._address)
        return following


def _authorize(request: urllib.request.Request, address: Address) -> None:
    # Unredirected: urllib gives all other headers to whatever host comes next.
    if address.token and origin(request.full_url) == origin(address.url):
        request.add_unredirected_header("Authorization", f"Bearer {address.token}")


@contextmanager
def _answer(address: Address, note: _Note | None) -> Iterator[Any]:
    """A server's answer: 200, or 304 where nothing has changed since the note.

    Raises:
        CheckpointError: it refuses. _Unreachable: it may answer another time.
    """
    request = urllib.request.Request(address.url, headers={"User-Agent": "restyle-batch"})
    if note is not None and note.etag:
        request.add_header("If-None-Match", note.etag)
    elif note is not None and note.modified:
        request.add_header("If-Modified-Since", note.modified)
    _authorize(request, address)
    try:
        with _opened(request, address) as got:
            yield got
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 304 or note is None:
                raise _refusal(address, error.code) from None
            yield error
    except urllib.error.URLError as error:
        raise _Unreachable(_reason(error.reason)) from None
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise _Unreachable(_reason(error)) from None


def _opened(request: urllib.request.Request, address: Address) -> Any:
    try:
        return urllib.request.build_opener(_Redirects(address)).open(request, timeout=TIMEOUT_S)
    except CheckpointError:
        raise
    except ValueError:  # urllib takes the next address apart
        raise CheckpointError(
            f"{address.shown} leads on to what is no address; {_BY_HAND}"
        ) from None


def _reason(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT_S:.0f} seconds"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _refusal(address: Address, status: int) -> Exception:
    """What a status means for whoever asked."""
    if status in _BUSY:
        return _Unreachable(f"the server answered with status {status}")
    is_hub = address.text.startswith("hf://")
    if status in (401, 403):
        token = "the HF_TOKEN that is set may not read it" if address.token else "set HF_TOKEN"
        todo = f"check its name; if it is private or gated, {token}" if is_hub else _BY_HAND
        return CheckpointError(
            f"{address.shown} was refused by its server (status {status}); {todo}"
        )
    if status in (404, 410):
        parts = "owner, name, file and revision" if is_hub else "the address"
        return CheckpointError(
            f"there is no file at {address.shown} (status {status}); check {parts}"
        )
    return CheckpointError(
        f"{address.shown} was not sent: its server answered with status {status}; {_BY_HAND}"
    )


def _stored(answer: Any, address: Address, folder: Path) -> Path:
    """The body of an answer, in the cache; nothing is there before all of it is found to be a checkpoint."""
    size = _announced(answer, address, folder)
    print(f"downloading {_ascii(address.shown)} ({_megabytes(size)}) to {folder}", file=sys.stderr)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part") as part:
        for block in _blocks(answer, address, size):
            digest.update(block)
            part.write(block)
        part.flush()
        found = digest.hexdigest()
        _require_ours(Path(part.name), address)
        if address.sha256 not in (None, found):
            raise CheckpointError(
                f"{address.shown} holds another file than is meant (sha256 {found[:12]}, not "
                f"{str(address.sha256)[:12]}): it was replaced; pass the address of the one that is meant"
            )
        path = folder / f"{found}{SUFFIX}"
        with suppress(FileExistsError):  # the same content, from another address
            os.link(part.name, path)
    headers = answer.headers
    note = _Note(found, headers.get("ETag") or "", headers.get("Last-Modified") or "")
    atomic.write_bytes(folder / f"{_key(address)}.json", json.dumps(asdict(note)).encode())
    return path


def _announced(answer: Any, address: Address, folder: Path) -> int | None:
    """Bytes that a server says it will send, None if it does not; refused where there is no room."""
    text = answer.headers.get("Content-Length") or ""
    size = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    if size is not None and size > MAX_BYTES:
        raise _too_large(address)
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise CheckpointError(
            f"{address.shown} has {_megabytes(size)}, but {folder} has room for {_megabytes(free)}; free "
            "some space, or set XDG_CACHE_HOME to another folder"
        )
    return size


def _blocks(answer: Any, address: Address, size: int | None) -> Iterator[bytes]:
    n = n_before = 0
    since = time.monotonic()
    while block := answer.read1(BLOCK):  # what is there: a whole block may never come
        n += len(block)
        if n > MAX_BYTES:
            raise _too_large(address)
        yield block
        if (seconds := time.monotonic() - since) >= PERIOD_S:
            if n - n_before < LEAST_SPEED * seconds:
                raise _Unreachable(f"it sends less than {LEAST_SPEED:.0f} bytes a second")
            print(f"{_megabytes(n)} of {_megabytes(size)}", file=sys.stderr)
            n_before, since = n, time.monotonic()
    if size is not None and n != size:
        raise _Unreachable(f"the connection ended after {_megabytes(n)} of {_megabytes(size)}")


def _too_large(address: Address) -> CheckpointError:
    return CheckpointError(
        f"{address.shown} has more than {_megabytes(MAX_BYTES)}, which no checkpoint needs; if it is one, "
        f"{_BY_HAND}"
    )


def _require_ours(path: Path, address: Address) -> None:
    """Refuse what is no checkpoint, such as a page that asks for a login, before it is kept."""
    try:
        with safe_open(path, framework="pt") as file:
            is_ours = checkpoint.METADATA_KEY in (file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(
            f"what {address.shown} holds is not a readable safetensors file ({error}); open the address in a "
            "browser to see what it is"
        ) from None
    if not is_ours:
        raise CheckpointError(
            f"{address.shown} is a safetensors file, but not from this project; pass one that `restyle "
            "convert` or `restyle train` wrote"
        )


def _megabytes(n: int | None) -> str:
    return "of unknown size" if n is None else f"{n / 1e6:,.1f} MB"


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
