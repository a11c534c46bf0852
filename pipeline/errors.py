"""The errors that a user can fix: each message is a sentence that says what to do."""

from __future__ import annotations


class ConfigError(ValueError):
    """A run that cannot start; the message is one sentence that says what to do."""


class ShardError(RuntimeError):
    """A shard that cannot be read to its end; nothing of it is written."""


class OutOfMemory(ConfigError):
    """The batch does not fit; no retry will help."""
