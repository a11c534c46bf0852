"""What keeps Ray from being joined or started, found before it is tried.

Ray itself waits for minutes, or ends the process without an exception.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

LOCAL, AUTO = "local", "auto"
CONNECT_TIMEOUT_S = 10.0
MAX_SOCKET_BYTES = 107  # of the name of a socket, a limit of Linux
# Below the folder for temporary files; the last number is a process.
SOCKET = "ray/session_2026-12-01_12-00-00_000000_{}/sockets/plasma_store"
# HTTP/2, which Ray's head speaks: what a client says first, and the kind of frame that answers it.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
N_HEADER_BYTES, KIND, SETTINGS = 9, 3, 4
N_PROBE_BYTES = 2**17  # Ray starts with little more


def address_of(asked: str | None) -> str:
    """Where Ray is. Without "local", Ray would join whatever cluster was started last on this machine."""
    return asked or os.environ.get("RAY_ADDRESS") or LOCAL


def require_reachable(asked: str | None) -> None:
    """Refuse an address where no cluster lets this user in, or a machine on which Ray cannot start.

    Args:
        asked: as the user passed it; None: that of the environment, or Ray is started here.

    Raises:
        ConfigError: one sentence that says what to do.
    """
    address = address_of(asked)
    if address == LOCAL:
        require_temporary_folder()
        return
    found = _found_here() if address == AUTO else address
    if found is None:
        return  # Ray refuses it by itself
    host, _, port = found.rpartition(":")
    if not (host and port.isdigit()) or "://" in found:
        raise ConfigError(
            f"{address}{_named(asked)} is not the address of a Ray cluster's head; give HOST:PORT, such as "
            f"10.0.0.1:6379{_or_run_here(asked)}"
        )
    try:
        _require_head(host.strip("[]"), int(port))
        _require_token(found)
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(asked, error) from None
    except Exception as error:  # Ray's own kinds, of which an earlier release has others
        if "token" in str(error).lower():
            raise no_cluster(asked, error) from None


def require_temporary_folder() -> None:
    """Refuse a folder for temporary files in which Ray cannot make its own.

    Raises:
        ConfigError: it cannot be written to, or sockets in it would have too long a name.
    """
    name = next((n for n in ("RAY_TMPDIR", "TMPDIR") if n in os.environ), "")
    folder = os.environ[name] if name else "/tmp"
    where = (
        f"{name} names {folder or 'no folder'}" if name else f"Ray keeps its files in {folder}/ray"
    )
    if not os.path.isabs(folder):
        raise ConfigError(f"{where}, but Ray needs a whole path; set {name}=/tmp")
    n_bytes = len(os.fsencode(os.path.join(folder, SOCKET.format(os.getpid()))))
    if n_bytes > MAX_SOCKET_BYTES:
        most = len(os.fsencode(folder)) - (n_bytes - MAX_SOCKET_BYTES)
        raise ConfigError(
            f"{where}, too long a name for the sockets in it (at most {most} characters); set RAY_TMPDIR to "
            "a shorter one, such as RAY_TMPDIR=/tmp"
        )
    try:
        own = Path(folder) / "ray"
        own.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=own) as probe:
            probe.write(bytes(N_PROBE_BYTES))
            probe.flush()
    except OSError as error:
        example = "" if folder == "/tmp" else ", such as RAY_TMPDIR=/tmp"
        raise ConfigError(
            f"{where}, which cannot be written to ({error.strerror}); set RAY_TMPDIR to a folder with room "
            f"that this user can write to{example}"
        ) from None


def _found_here() -> str | None:
    """The cluster that "auto" means; None where Ray finds none, or a release has other names for it."""
    try:
        services: Any = import_module("ray._private.services")
        services.find_gcs_addresses.cache_clear()
        return services.canonicalize_bootstrap_address(AUTO)
    except Exception:  # plain ones among them
        return None


def _require_head(host: str, port: int) -> None:
    """OSError where nobody listens, or somebody who is no head: Ray would wait for that one for minutes."""
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return
        connection.sendall(PREFACE)
        header = connection.recv(N_HEADER_BYTES)
    if len(header) <= KIND or header[KIND] != SETTINGS:
        raise OSError("something other than Ray listens there")


def _require_token(address: str) -> None:
    """Raise Ray's own error at once: it tries a wrong token for 20 s, and then forgets why it failed."""
    try:
        setup: Any = import_module("ray._private.authentication.authentication_token_setup")
        require = setup.ensure_token_if_auth_enabled
    except (ImportError, AttributeError):
        return  # a release that says all that by itself
    require({}, create_token_if_missing=False)  # without one, the next line would end the process
    with _silent():
        import_module("ray._raylet").GcsClient(address=address)


@contextmanager
def _silent() -> Iterator[None]:
    """Within it, nothing comes to stderr, where Ray's C++ would say in its words what is said below."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def no_cluster(asked: str | None, error: BaseException) -> ConfigError:
    """That nobody answers, or wants another token, and what to do, which depends on who named the address."""
    if "token" in str(error).lower():
        return _refused(asked, error)
    do = "start the cluster" if asked is None else "start one with `ray start --head`"
    at = f"{address_of(asked)}{_named(asked)}".rstrip(",")
    return ConfigError(
        f"no Ray cluster answers at {at} ({_line(error)}); {do}{_or_run_here(asked)}"
    )


def _refused(asked: str | None, error: BaseException) -> ConfigError:
    """That the cluster wants a token, and which."""
    why = _line(error).partition(". ")[0]
    return ConfigError(
        f"the Ray cluster at {address_of(asked)}{_named(asked)} refuses this user's token ({why}); set "
        f"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the cluster's own token{_or_run_here(asked)}"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _named(asked: str | None) -> str:
    return "" if asked else ", which RAY_ADDRESS in the environment names,"


def _or_run_here(asked: str | None) -> str:
    """The other way out."""
    drop = "leave --address out" if asked else "unset RAY_ADDRESS"
    return f", or {drop} to run on this machine"
