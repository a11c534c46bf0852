"""A photo as a notebook has it: a path, a file or its bytes, a PIL image or an array."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import ConfigError, ShardError
from pipeline.faces import colour, images
from pipeline.faces.prepare import AlignSettings, align_picture, align_sample
from pipeline.inversion.feed import UNFORESEEN
from pipeline.printing import printable
from pipeline.records import AlignedFace, Sample, Status
from pipeline.shards.members import key_and_extension
from pipeline.storage import is_remote, redact
from pipeline.storage.stream import open_stream

Given = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray
KINDS = "a path, the bytes of a file, a PIL image, an array [H, W, 3] of uint8, or a list of these"


@dataclass(frozen=True, eq=False, repr=False)
class Photo:
    """What was given, kept for as long as its faces: a file's bytes, or pixels in their own colours."""

    name: str  # for people
    data: bytes | None = None
    pixels: np.ndarray | None = None  # [H, W, 3] uint8
    profile: bytes | None = None  # of the pixels; None: sRGB

    def __repr__(self) -> str:
        return f"Photo({self.name})"

    def aligned(self, index: int, settings: AlignSettings) -> list[AlignedFace]:
        """Its faces, largest first, or one failure: what a worker makes of it.

        index: of the photo among others, which its rows carry.
        """
        sample = Sample(index, key_and_extension(self.name)[0], self.data)
        try:
            if self.pixels is None:
                return align_sample(sample, settings)
            return align_picture(sample, self.pixels, self.profile, settings)
        except UNFORESEEN as error:
            text = f"alignment failed: {type(error).__name__}: {error}"[:500]
            return [AlignedFace(index, sample.key, Status.CRASHED, text)]

    def decoded(self) -> np.ndarray:
        """The whole picture, upright: [H, W, 3] uint8 sRGB, not to be written to."""
        if self.pixels is not None:
            return colour.to_srgb(self.pixels, self.profile)
        assert self.data is not None, "one of the two"
        return images.decode(self.data)


def is_several(given: object) -> bool:
    """Whether these are photos, not one."""
    is_one = isinstance(given, str | bytes | bytearray | memoryview | Image.Image | np.ndarray)
    is_file_or_tensor = hasattr(given, "read") or hasattr(given, "detach")
    return isinstance(given, Iterable) and not (is_one or is_file_or_tensor)


def opened(given: Any, unnamed: str = "the photo") -> Photo:
    """The photo that is given; a file is read, its picture not decoded yet.

    unnamed: what to call one without a file name.

    Raises:
        ConfigError: no such file, or nothing that is a photo.
    """
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if isinstance(path, str):
            return Photo(_name(path), _read(path))
    if isinstance(given, bytes | bytearray | memoryview):
        return Photo(unnamed, bytes(given))
    if hasattr(given, "read"):
        data = given.read()
        if isinstance(data, bytes):
            return Photo(_name(str(getattr(given, "name", "")), unnamed), data)
        raise ConfigError(f"{unnamed} is a file that was opened as text; open it with mode 'rb'")
    if isinstance(given, Image.Image):
        name = _name(str(getattr(given, "filename", "") or ""), unnamed)
        try:
            pixels, profile = images.opened_own_colours(given)
        except images.ImageError as error:
            raise unreadable(name, str(error)) from None
        return Photo(name, pixels=pixels, profile=profile)
    if isinstance(given, np.ndarray):
        is_picture = given.ndim == 3 and given.shape[2] == 3 and given.dtype == np.uint8
        if not is_picture or not given.size:
            what = f"an array {list(given.shape)} of {given.dtype}"
            raise ConfigError(
                f"{unnamed} is {what}; an array must be [H, W, 3] of uint8, red first"
            )
        return Photo(unnamed, pixels=given.copy())
    raise ConfigError(f"{unnamed} is of type {type(given).__name__}; pass {KINDS}")


def unreadable(name: str, why: str) -> ConfigError:
    """That there is no picture in what was given."""
    return ConfigError(
        f"{name} is not a photo that can be read: {why}; pass another file, or save it again as JPEG or PNG"
    )


def _name(path: str, otherwise: str = "") -> str:
    """What a message calls a file."""
    return printable(os.path.basename(redact(path).rstrip("/")) or otherwise or path)


def _read(path: str) -> bytes:
    if is_remote(path):
        try:
            with open_stream(path) as stream:
                return stream.read()
        except (ShardError, OSError) as error:
            raise ConfigError(f"cannot read the photo {redact(path)}: {error}") from None
    local = os.path.expanduser(path)
    shown = printable(path)
    try:
        mode = os.stat(local).st_mode
        if stat.S_ISDIR(mode):
            raise ConfigError(
                f"{shown} is a folder; pass the photos in it, such as list(Path({path!r}).glob('*.jpg'))"
            )
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{shown} is a device or a pipe; pass a file, or its bytes")
        with open(local, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file at {shown} (looked for in {printable(os.getcwd())}); check the path"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {shown}: {getattr(error, 'strerror', error)}") from None
