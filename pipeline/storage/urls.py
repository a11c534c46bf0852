"""What of an address may be shown: in logs, errors and files there is no password and no signature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

OBJECT_STORES = ("s3://", "gs://", "gcs://")
HTTP = ("http://", "https://")
PIPE = "pipe:"
# Photos where they lie (pipeline/shards/photo_shards.py); behind a # stands which they are.
PHOTOS = "photos://"
SCHEME = re.compile(r"[a-zA-Z][\w+.-]+://")
# Scheme, place with its user, path, query. urlsplit refuses addresses that must still be shown.
PARTS = re.compile(r"([a-zA-Z][\w+.-]+://)([^/?]*)([^?]*)\??(.*)", re.DOTALL)
# A host and its port; a colon elsewhere follows a user.
HOST = re.compile(r"[^:]*(:\d*)?|\[.*\](:\d+)?")
BUCKET = re.compile(r"[^:]*:?")
# Query fields of signed URLs, by their names' beginnings, and by words anywhere in them.
SECRET_FIELD = re.compile(
    r"x-(amz|goog|ms)-|awsaccesskeyid|googleaccessid|(sig|se|sp|sv|st|sid|key|code)=|"
    r"expires|policy|access|session|"
    r"[^=]*(signature|api[-_]?key|[-_]key|auth|token|pass|pwd|secret|credential|jwt|hmac)[^=]*=|$",
    re.IGNORECASE,
)
# In HTML and XML, which error texts quote, & is written &amp;.
FIELDS = re.compile("&(?:amp;)?")
# Not beyond the next one's scheme: they also stand side by side.
URL_IN_TEXT = re.compile(r"[a-zA-Z][\w+.-]+://(?:(?![a-zA-Z][\w+.-]+://)[^\s'\"])*")
# All that is shown of a command besides its URLs: any other word may be a secret.
PROGRAM = re.compile(r"\s*([\w./+~-]+)(?=\s|$)")
TAR = r"[\w./~+%-]*\.(?:tar|tgz)(?:\.\w+)?(?![\w@:])"
SHOWN = re.compile(f"{URL_IN_TEXT.pattern}|{TAR}")


def is_remote(url: str) -> bool:
    """Whether this is the address of a store, a server or a command, not a local path."""
    return url.startswith(PIPE) or SCHEME.match(url) is not None


def redact(url: str) -> str:
    """An address fit for logs, errors and files: without user, password, signature or store options.

    Of a command its program, its URLs and its tar files are left; of photos, what names their shard.
    """
    if url.startswith(PIPE):
        return PIPE + _redacted_command(url.removeprefix(PIPE))
    if url.startswith(PHOTOS):
        return url.partition("#")[0]
    if not is_remote(url):
        return url
    scheme, _, place, query = _parts(url)
    kept = [] if scheme in OBJECT_STORES else FIELDS.split(query)
    query = "&".join(field for field in kept if not _is_secret(field))
    return f"{scheme}{place}?{query}" if query else f"{scheme}{place}"


def path_of(url: str) -> str:
    """The path in an address; of one that cannot be taken apart, all that is not its query."""
    try:
        return urlsplit(url).path
    except ValueError:
        return url.partition("?")[0]


def name_of(url: str) -> str:
    """The last name in an address, for people: of the shard, without the folders that it lies in."""
    shown = redact(url)
    shown = shown if url.startswith(PIPE) or not is_remote(url) else path_of(shown)
    return PurePosixPath(shown).name


def redacted_message(error: BaseException, url: str = "") -> str:
    """An error's text in one line, without the secrets of its address or of others that it quotes."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = redact_text(text)
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def redact_text(text: str) -> str:
    """A text whose addresses show no secret."""
    return URL_IN_TEXT.sub(lambda found: redact(found[0]), text)


def _parts(url: str) -> tuple[str, str, str, str]:
    """Scheme, user and password, place, query."""
    match = PARTS.fullmatch(url)
    assert match is not None
    scheme, (authority, path, query) = match[1].lower(), match.group(2, 3, 4)
    host = BUCKET if scheme in OBJECT_STORES else HOST
    if "@" not in authority and not host.fullmatch(authority):
        # A password with an unescaped / or ?, as many keys of AWS have: the place follows the last @.
        user, is_there, rest = url[len(scheme) :].rpartition("@")
        path, _, query = rest.partition("?") if is_there else (path, "", query)
        return scheme, user or authority, path, query
    user, _, rest = authority.rpartition("@")
    # Elsewhere a name before the @ is no secret but part of the place: abfs://container@account, sftp.
    if ":" in user or scheme in (*OBJECT_STORES, *HTTP):
        return scheme, user, rest + path, query
    return scheme, "", authority + path, query


def _is_secret(field: str) -> bool:
    return SECRET_FIELD.match(unquote(field)) is not None


def _redacted_command(command: str) -> str:
    program = PROGRAM.match(command)
    words, end = ([program[1]], program.end()) if program else ([], 0)
    for match in [*SHOWN.finditer(command, end), None]:
        if command[end : match.start() if match else None].strip(" '\""):
            words.append("***")
        if match:
            words.append(redact(match[0]))
            end = match.end()
    return " ".join(words)


def _secrets(url: str) -> Iterator[str]:
    if url.startswith(PIPE) or not is_remote(url):
        return
    _, user, _, query = _parts(url)
    hidden = [user, *user.split(":"), *re.split("[:/?]", user)]
    for field in filter(_is_secret, FIELDS.split(query)):
        hidden += [field, field.partition("=")[2]]
    # As it stands in the URL and as it is meant; a text of a letter or two hides nothing.
    yield from (text for secret in hidden for text in {secret, unquote(secret)} if len(text) > 2)
