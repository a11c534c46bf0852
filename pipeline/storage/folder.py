"""A folder that is written to and read from by name: on a disk, or a prefix of a store."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import Any

from pyarrow import fs as pafs

from pipeline.errors import ConfigError
from pipeline.storage import strict_json
from pipeline.storage.filesystems import filesystem, listed, make_folder
from pipeline.storage.urls import redact, redacted_message


class Folder:
    """Files below one address.

    Attributes:
        address: as given; may hold secrets.
        files: pyarrow's filesystem of it.
        path: of the folder in that filesystem.
    """

    def __init__(self, address: str) -> None:
        """
        Raises:
            ConfigError: the address cannot be written to, or its credentials are missing.
        """
        self.address = address
        self.files, self.path = filesystem(address)

    def __str__(self) -> str:
        """The address, fit to be shown."""
        return redact(self.address)

    @property
    def is_local(self) -> bool:
        return isinstance(self.files, pafs.LocalFileSystem)

    def at(self, name: str) -> str:
        """The path of a file below the folder."""
        return f"{self.path}/{name}"

    def names(self, below: str = "") -> list[str]:
        """Sorted names of what lies directly in the folder, or in one below it; [] where there is none.

        Raises:
            ConfigError: it cannot be listed.
        """
        return list(self.sizes(below))

    def sizes(self, below: str = "") -> dict[str, int]:
        """The same with the bytes of each file; of what is no file, 0.

        Raises:
            ConfigError: it cannot be listed.
        """
        path = self.at(below) if below else self.path
        selector = pafs.FileSelector(path, allow_not_found=True)
        infos = listed(self.files, selector, self.address)
        return {info.base_name: info.size or 0 for info in sorted(infos, key=lambda i: i.base_name)}

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is no such file; raises what the library raises."""
        if self.files.get_file_info(self.at(name)).type != pafs.FileType.File:
            return None
        with self.files.open_input_stream(self.at(name)) as stream:
            return stream.read()

    def read_json(self, name: str) -> Any:
        """A record, or None where there is none.

        Raises:
            ConfigError: it cannot be read.
        """
        try:
            content = self.read(name)
            return None if content is None else _record(content)
        except Exception as error:  # of whatever library the store is reached by
            why = redacted_message(error, self.address)
            raise ConfigError(
                f"cannot read {self}/{name} ({why}); delete it and run again"
            ) from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all: beside its goal, then moved. Raises what the library raises."""
        part = f"{self.at(name)}.{uuid.uuid4().hex}"
        make_folder(self.files, os.path.dirname(part))
        try:
            with self.files.open_output_stream(part) as stream:
                stream.write(content)
            self.files.move(part, self.at(name))
        except BaseException:
            with suppress(Exception):  # a full disk would be given one more with each attempt
                self.files.delete_file(part)
            raise

    def write_first(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; False where somebody was first.

        Of two that come at once, on a disk one alone is the first; in a store both may be.
        """
        if self.read(name) is not None:
            return False
        if not self.is_local:
            self.write(name, content)
            return True
        part = f"{name}.{uuid.uuid4().hex}"
        self.write(part, content)
        try:
            os.link(self.at(part), self.at(name))
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            self.write(name, content)
        finally:
            self.delete(part)
        return True

    def delete(self, name: str) -> None:
        """Delete a file. Raises what the library raises."""
        self.files.delete_file(self.at(name))


def _record(content: bytes) -> Any:
    found = strict_json.parsed(content)
    if found is None:  # as where there is no file
        raise ValueError("it is null")
    return found
