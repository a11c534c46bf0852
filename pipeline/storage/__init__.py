"""Bytes at an address: listed, told apart, opened, read on, retried; knows no tar and no row."""

from pipeline.storage.filesystems import filesystem
from pipeline.storage.listing import absolute, expand, state, version
from pipeline.storage.urls import PIPE, is_remote, redact

__all__ = ["PIPE", "absolute", "expand", "filesystem", "is_remote", "redact", "state", "version"]
