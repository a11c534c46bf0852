"""One sample from the files of one key: which of them is its image, what else is wanted, and what is wrong.

Keys are WebDataset's: the name up to the first dot of its basename. With one difference: a dot before a digit
belongs to the key, unless it is the last dot. Cameras name photos by date (``2023.01.05_12.30.11.jpg``), and
to WebDataset a year of them is one sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from pipeline.records import IMAGE_EXTENSIONS, Sample, Status

# The name up to the dot that ends its key, and what follows.
KEY_AND_EXTENSION = re.compile(r"([^.]*(?:\.[0-9][^.]*(?=\.))*)\.(.*)", re.DOTALL)
N_NAMED = 5  # members in an error
# A tar header may announce any size; a photo is smaller than this.
MAX_IMAGE_BYTES = 1 << 29
# And what describes it (text, label, latent) is smaller than this.
MAX_FIELD_BYTES = 16 << 20
# All files of one sample that are wanted, and all their names.
MAX_SAMPLE_BYTES = 1 << 30
TOO_MUCH = "the files of one sample are above 1 GiB together"
_ENTRY_BYTES = 256  # what Python takes for a name besides its letters


@dataclass(frozen=True)
class Member:
    """One file of a sample; its bytes where they are wanted, or why there are none."""

    data: bytes | None = None
    error: str | None = None


class Members(dict[str, Member]):
    """Members of one sample by extension; of any number of images it holds the bytes of one at most."""

    def __init__(self, fields: frozenset[str]) -> None:
        super().__init__()
        self._fields = fields
        self._photo: str | None = None  # the image that may be the sample's
        self._n_plain = self._n_others = 0  # images `.jpg`, images `.mask.png`
        self._n_held = self.n_name_bytes = 0

    def take(self, name: str, extension: str, read: Callable[[], Member]) -> None:
        """Add the next member, read where its bytes are wanted."""
        self.n_name_bytes += len(name) + _ENTRY_BYTES
        member = read() if self._wants(extension) else Member()
        self._n_held += 0 if member.data is None else len(member.data)
        self[extension] = member if self._n_held <= MAX_SAMPLE_BYTES else Member(error=TOO_MUCH)

    def _wants(self, extension: str) -> bool:
        """Whether the bytes of the next member are to be read; lets go of those that it makes useless."""
        if not is_image(extension):
            return extension in self._fields
        is_plain = "." not in extension
        is_photo = not self._n_plain and (is_plain or not self._n_others)
        if self._photo is not None and (is_plain or not self._n_plain):
            if self._photo not in self._fields:
                self._n_held -= len(self[self._photo].data or b"")
                self[self._photo] = Member(error=self[self._photo].error)
            self._photo = None
        self._n_plain += is_plain
        self._n_others += not is_plain
        self._photo = extension if is_photo else self._photo
        return is_photo or extension in self._fields


def key_and_extension(name: str) -> tuple[str, str]:
    """The key of a member, and what it is: ``("a/b", "w.npy")`` of ``a/b.W.npy``; in small letters."""
    folder, slash, base = name.rpartition("/")
    found = KEY_AND_EXTENSION.fullmatch(base)
    # No dot: a member of no type, a sample of its own.
    return (name, "") if found is None else (f"{folder}{slash}{found[1]}", found[2].lower())


def is_image(extension: str) -> bool:
    """Whether files of an extension (lower case, "jpg", "mask.png") are pictures."""
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def too_large(extension: str, n_bytes: int) -> str | None:
    """Why a file is not read; None: it is."""
    if is_image(extension) and n_bytes > MAX_IMAGE_BYTES:
        return f"a file of {n_bytes / 2**30:.1f} GiB is not a photo"
    if not is_image(extension) and n_bytes > MAX_FIELD_BYTES:
        size, most = (n / 2**20 for n in (n_bytes, MAX_FIELD_BYTES))
        return f"a field of {size:.1f} MiB is above the limit of {most:.0f} MiB"
    return None


def sample_of(index: int, key: str, members: dict[str, Member], fields: frozenset[str]) -> Sample:
    """The sample that files of one key make, or which failure it is.

    Args:
        members: by extension; names of files may have been bytes that are no UTF-8.
        fields: extensions of those whose bytes are wanted beside the image.
    """
    # Names are bytes; what is not UTF-8 is escaped, for Parquet holds text.
    key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    status, error, data = _image(members)
    chosen = {ext: members[ext] for ext in fields & members.keys()}
    bad = [f".{ext}: {member.error}" for ext, member in sorted(chosen.items()) if member.error]
    if bad and status == Status.OK:
        status, error, data = Status.FIELD_ERROR, bad[0], None
    data_by_ext = {ext: member.data for ext, member in chosen.items() if member.data is not None}
    return Sample(index, key, data, status, error, data_by_ext)


def _image(members: dict[str, Member]) -> tuple[Status, str | None, bytes | None]:
    """The one image of a sample, or why there is none."""
    images = [ext for ext in members if is_image(ext)]
    # `photo.jpg` beside `photo.mask.png`: the plain extension is the photo.
    images = [ext for ext in images if "." not in ext] or images
    if len(images) == 1:
        image = members[images[0]]
        status = Status.OK if image.error is None else Status.MISSING_IMAGE
        return status, image.error, image.data
    names = _named(images or list(members))
    if images:
        error = f"{len(images)} images in one sample ({names}); keep one"
        if len(images) > 2 and all("." in ext for ext in images):
            error += (
                ", or pack them with `restyle pack`: a name's key ends at its first dot, unless a digit "
                "follows, and these share theirs"
            )
        return Status.AMBIGUOUS_IMAGE, error, None
    error = (
        f"no image among its members ({names}); members of one key must follow one another in the tar, "
        "as `restyle pack` and `tar --sort=name` write them"
    )
    return Status.MISSING_IMAGE, error, None


def _named(extensions: list[str]) -> str:
    """Members of a sample for people, the first few."""
    names = ", ".join(
        f".{ext[:40]}" if ext else "no extension" for ext in islice(extensions, N_NAMED)
    )
    if len(extensions) > N_NAMED:
        names += f" and {len(extensions) - N_NAMED} more"
    return names.encode("utf-8", "backslashreplace").decode()
