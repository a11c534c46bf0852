"""Waiting for a source or a store that fails: a bounded number of tries, longer and longer apart."""

from __future__ import annotations

import errno
import random
import ssl
import time
from dataclasses import dataclass
from http.client import InvalidURL
from urllib.error import HTTPError, URLError

N_TRIES = 6
FIRST_WAIT_S = 0.5  # doubled for each further one: 15 seconds in all
LONGEST_WAIT_S = 20.0
# Answers of a server that is busy or being restarted.
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
# What comes out the same the next time.
PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ssl.SSLCertVerificationError,
    InvalidURL,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    MemoryError,
)
# The same in the words of pyarrow's stores, which have one exception for everything.
PERMANENT_WORDS = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_SIGNATURE",
    "UNRECOGNIZED_CLIENT",
    "NO_SUCH_",
    "RESOURCE_NOT_FOUND",
    "Permission denied",
    "UNAUTHENTICATED",
)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, HTTPError):
        return error.code in RETRYABLE_STATUS
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return is_transient(error.reason)
    if isinstance(error, PERMANENT) or getattr(error, "errno", None) == errno.ENOSPC:
        return False
    return not any(word in str(error) for word in PERMANENT_WORDS)


@dataclass
class Retry:
    """Counts the failures of one piece of work."""

    n_failures: int = 0

    def wait_or_raise(self, error: Exception, message: Exception) -> None:
        """Wait before the next try.

        Raises:
            ``message``, what the caller makes of the error: it is permanent, or the tries are used up.
        """
        self.n_failures += 1
        if self.n_failures >= N_TRIES or not is_transient(error):
            raise message from None
        longest = min(FIRST_WAIT_S * 2 ** (self.n_failures - 1), LONGEST_WAIT_S)
        # Not all at the same moment: a thousand workers are throttled together.
        time.sleep(max(longest * random.uniform(0.5, 1), _asked_for(error)))


def _asked_for(error: Exception) -> float:
    """Seconds that a server asks to wait."""
    header = error.headers.get("Retry-After", "") if isinstance(error, HTTPError) else ""
    return min(float(header), LONGEST_WAIT_S) if header.isdigit() else 0.0
