"""Addresses of checkpoint files, taken apart: ``hf://owner/name/file.safetensors@revision`` and ``https://...``.

Only safetensors come from an address: a file that nobody has looked at is read as numbers or not at all. What
follows ``#sha256=`` says which content is meant: so does a run tell its workers what it began with.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from generators.files.checkpoint import CheckpointError

SUFFIX = ".safetensors"
HUB = "https://huggingface.co"  # unless HF_ENDPOINT says another
EXAMPLES = "hf://owner/name/file.safetensors or https://host/file.safetensors"
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_PIN = re.compile(r"sha256=([0-9a-f]{64})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY_NAME = re.compile(r"[\w.-]+")
# What of a URL stays as it is; letters of other alphabets and spaces are escaped.
_OF_URLS = "%:/?&=+,;@!$'()*[]~"


@dataclass(frozen=True)
class Address:
    """A file somewhere else."""

    text: str  # as it was given, without the sha256
    url: str  # where it is asked for
    sha256: str | None = None  # what its content must be; None: whatever is there
    token: str | None = None  # for the origin of `url`, and no other
    is_fixed: bool = False  # its content never changes: a commit of a repository

    @property
    def shown(self) -> str:
        """For messages: without a query, which may be a signature."""
        return self.text.partition("?")[0]

    @property
    def pinned(self) -> str:
        """With the sha256 that its content must have."""
        return f"{self.text}#sha256={self.sha256}" if self.sha256 else self.text


def is_address(path: str | os.PathLike) -> bool:
    """Whether this names a file of another machine, by its scheme."""
    return isinstance(path, str) and _SCHEME.match(path) is not None


def parse(text: str) -> Address:
    """An address from what a user typed.

    Raises:
        CheckpointError: nothing can be taken from there, in one sentence that says what to do.
    """
    bare, mark, fragment = text.partition("#")
    pin = _PIN.fullmatch(fragment)
    scheme = bare.partition("://")[0].lower()
    if scheme not in ("hf", "http", "https"):
        raise CheckpointError(
            f"a checkpoint cannot be taken from a {scheme}:// address; pass {EXAMPLES}, or download it "
            "yourself, then pass its path"
        )
    if mark and not pin:
        raise CheckpointError(
            f"what follows # in {_without_query(bare)} must be sha256= and 64 hexadecimal digits"
        )
    digest = pin[1] if pin else None
    return _of_hub(bare, digest) if scheme == "hf" else _of_web(bare, digest)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: what a token is for."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _of_web(text: str, digest: str | None) -> Address:
    url = quote(text, safe=_OF_URLS)
    _require_place(url, "an address")
    _require_suffix(urlsplit(url).path, text)
    return Address(text, url, digest)


def _of_hub(text: str, digest: str | None) -> Address:
    """``hf://owner/name/path[@revision]``, or as Hugging Face writes it: ``hf://owner/name@revision/path``."""
    owner, _, rest = text[len("hf://") :].partition("/")
    name, _, path = rest.partition("/")
    name, _, first = name.partition("@")
    path, _, last = path.partition("@")
    parts = path.split("/")
    if not all(_REPOSITORY_NAME.fullmatch(word) for word in (owner, name)):
        raise CheckpointError(f"{text} names no repository; write {EXAMPLES}")
    if not set(parts).isdisjoint({"", ".", ".."}) or (first and last):
        raise CheckpointError(f"{text} names no file of a repository; write {EXAMPLES}")
    _require_suffix(path, text)
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise CheckpointError("HF_ENDPOINT must begin with https:// or http://; correct it")
    _require_place(endpoint, "HF_ENDPOINT")
    revision = first or last or "main"
    where = f"{owner}/{name}/resolve/{quote(revision, safe='')}/{quote(path)}"
    is_commit = _COMMIT.fullmatch(revision) is not None
    return Address(text, f"{endpoint}/{where}", digest, _token(), is_commit)


def _token() -> str | None:
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise CheckpointError("HF_TOKEN holds characters that no token has; set it again")
    return token or None


def _require_suffix(path: str, text: str) -> None:
    if not path.endswith(SUFFIX):
        raise CheckpointError(
            f"{_without_query(text)} does not end in {SUFFIX}, the only kind of file that is taken from an "
            "address; download it yourself, then pass its path (`restyle convert` makes ours of it)"
        )


def _require_place(url: str, what: str) -> None:
    """Refuse a URL without a host, or with a user's name; the message repeats nothing of it."""
    try:
        parts = urlsplit(url)
        is_usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise CheckpointError(f"{what} has no host that can be asked; write {EXAMPLES}")
    if "@" in parts.netloc:
        raise CheckpointError(
            f"{what} with a user name or password in it is not taken, for it would end up in files; "
            "download the checkpoint yourself, then pass its path"
        )


def _without_query(text: str) -> str:
    return text.partition("?")[0]
