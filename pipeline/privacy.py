"""What of an address may be shown: in logs, errors and files there is no password and no signature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit, urlunsplit

OBJECT_STORES = ("s3://", "gs://", "gcs://")
HTTP = ("http://", "https://")
PIPE = "pipe:"
SCHEME = re.compile(r"[a-zA-Z][\w+.-]+://")
# Query fields of signed URLs.
SECRET_FIELD = re.compile(
    r"(x-amz-|x-goog-|x-ms-|awsaccesskeyid|googleaccessid|signature|sig=|se=|sp=|sv=|st=|expires|policy|"
    r"key|api[-_]?key|access|auth|token|pass|pwd|secret|credential|jwt|session|hmac|$)",
    re.IGNORECASE,
)
# What precedes a secret in a command.
SECRET_WORD = re.compile(
    r"([\w-]*(?:authorization|bearer|token|passw(?:or)?d|secret|credential|(?:api|access|account)[-_]?key)"
    r"[\w-]*)(\s*[:=]\s*|\s+)(?:basic |bearer )?(?:\"[^\"]*\"|'[^']*'|[^\s'\"]+)",
    re.IGNORECASE,
)
SECRET_USER = re.compile(r"(\s(?:-u|--user|--proxy-user)[ =]?['\"]?)[^\s:'\"]+:[^\s'\"]+")
URL_IN_COMMAND = re.compile(r"[a-zA-Z][\w+.-]+://[^\s'\"]+")


def is_remote(url: str) -> bool:
    return url.startswith(PIPE) or SCHEME.match(url) is not None


def public(url: str) -> str:
    """A URL fit for logs, errors and files: without user, password, signature or store options."""
    if url.startswith(PIPE):
        return _public_command(url)
    if not is_remote(url):
        return url
    parts = urlsplit(url, allow_fragments=False)
    kept = [] if url.startswith(OBJECT_STORES) else parts.query.split("&")
    query = "&".join(field for field in kept if not SECRET_FIELD.match(field))
    return urlunsplit((parts.scheme, _public_host(url), parts.path, query, ""))


def _public_host(url: str) -> str:
    host = urlsplit(url, allow_fragments=False).netloc
    user, _, rest = host.rpartition("@")
    # Elsewhere a name before the @ is no secret but part of the place: abfs://container@account, sftp.
    has_password = ":" in user or url.startswith((*OBJECT_STORES, *HTTP))
    return rest if has_password else host


def _public_command(command: str) -> str:
    command = URL_IN_COMMAND.sub(lambda found: public(found[0]), command)
    command = SECRET_USER.sub(r"\1***", command)
    return SECRET_WORD.sub(r"\1\2***", command)


def reason(error: BaseException, url: str) -> str:
    """An error's text in one line, for libraries like to repeat the address, without the secrets in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(url: str) -> Iterator[str]:
    if url.startswith(PIPE) or not is_remote(url):
        return
    parts = urlsplit(url, allow_fragments=False)
    user, is_there, _ = parts.netloc.rpartition("@")
    if is_there and _public_host(url) != parts.netloc:
        yield from _both(user)
        yield from (word for part in user.split(":") for word in _both(part))
    for field in parts.query.split("&"):
        if SECRET_FIELD.match(field):
            yield from _both(field)
            yield from _both(field.partition("=")[2])


def _both(text: str) -> Iterator[str]:
    """As it stands in the URL and as it is meant; a text of a letter or two hides nothing."""
    yield from (found for found in {text, unquote(text)} if len(found) > 2)
