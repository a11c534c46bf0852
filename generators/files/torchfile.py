"""torch's files below ``torch.load``: their storages and tensors as descriptions, nothing allocated.

Used to read storages inside NVIDIA's pickles, and to refuse a ``.pt`` that would take more memory than the
file has bytes before ``torch.load`` sees it.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from generators.files import pickled, settings
from generators.files.pickled import DamagedPickle, Record, RefusedPickle, Window

_MAGIC = 0x1950A86A20F9469CFC6C  # torch's mark of the container before zip
_DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
STORAGE_NAMES = frozenset(_DTYPES)
# What else a checkpoint names: containers and settings whose size is that of what they are made from. (Not
# all that torch.load allows: `bytearray(10**10)` is harmless code, but 10 GB.)
_NAMES = STORAGE_NAMES | {
    *(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.complex",
    "builtins.set",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
    "torch.Size",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_parameter_with_state",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.storage.UntypedStorage",
    *settings.STAND_INS,
}
_CONTAINERS = (
    "builtins.set",
    "collections.Counter",
    "collections.OrderedDict",
    "collections.defaultdict",
)
_CODECS = ("latin1", "ascii", "utf-8")
_MOST = 1 << 48  # of any size or offset
_MAX_DIMENSIONS = 16


@dataclass(frozen=True)
class Storage:
    """A flat array of numbers in a file."""

    key: str  # its name in the container
    dtype: torch.dtype
    n: int  # entries
    start: int = 0  # where its bytes begin in the file, once known

    @property
    def n_bytes(self) -> int:
        return self.n * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: a view of a storage."""

    storage: Storage
    offset: int  # its first entry
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.storage.dtype.itemsize

    @property
    def n_spanned(self) -> int:
        """Entries of the storage from its first to its last."""
        return 1 + sum(
            (size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)
        )

    def read(self, file: BinaryIO) -> Tensor:
        """Its numbers, in memory of their own, contiguous."""
        dtype = self.storage.dtype
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=dtype)
        flat = torch.empty(self.n_spanned, dtype=dtype)
        file.seek(self.storage.start + self.offset * dtype.itemsize)
        read_into(flat, file)
        return flat.as_strided(self.shape, self.stride).contiguous()


def read_into(tensor: Tensor, file: BinaryIO) -> None:
    """Fill a contiguous tensor with the bytes at the file's position.

    Raises:
        DamagedPickle: the file ends before.
    """
    data = tensor.reshape(-1).view(torch.uint8).numpy().data
    if file.readinto(data) < len(data):  # type: ignore[attr-defined]
        raise DamagedPickle("the file ends inside a tensor")


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """Stands in for ``torch._utils._rebuild_tensor_v2``; a view larger than its storage is refused."""
    if not isinstance(storage, Storage):
        raise DamagedPickle(f"a tensor over a {type(storage).__name__}, not over a storage")
    numbers = (offset, *shape, *stride)
    are_sizes = all(isinstance(n, int) and 0 <= n < _MOST for n in numbers)
    if not are_sizes or len(numbers) > 2 * _MAX_DIMENSIONS + 1:
        raise DamagedPickle("a tensor of an impossible shape")
    made = StoredTensor(storage, offset, tuple(shape), tuple(stride))
    n = math.prod(shape)
    if n and (n > storage.n or offset + made.n_spanned > storage.n):
        raise RefusedPickle(
            f"a tensor of shape {list(shape)} over a storage of {storage.n:,} numbers"
        )
    return made


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


TENSOR_MAKERS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _storage(identity: Any) -> Storage:
    """Stands in for torch's ``persistent_load``: ("storage", class, key, device, entries, ...)."""
    if not (isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"):
        raise RefusedPickle("a reference that is not to a storage")
    kind, key, n = identity[1], identity[2], identity[4]
    if not isinstance(kind, pickled.Global) or not isinstance(n, int) or not 0 <= n < _MOST:
        raise DamagedPickle("a storage of unknown kind or size")
    return Storage(str(key), _DTYPES.get(kind.name, torch.uint8), n)


class _Tensors:
    """Makers that remember what they made."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self.n_bytes = 0  # of all tensors
        self.n_encoded = 0  # bytes that texts are to be turned into

    def storage(self, identity: Any) -> Storage:
        made = _storage(identity)
        self.storages[made.key] = made
        return made

    def tensor(self, *args: Any) -> StoredTensor:
        made = rebuild_tensor(*args)
        self.n_bytes += made.n_bytes
        return made

    def of_type(self, function: Any, kind: Any, args: Any, *_: Any) -> Any:
        """Stands in for ``torch._tensor._rebuild_from_type_v2``, which calls what the file names."""
        name = function.name if isinstance(function, pickled.Global) else ""
        if name not in TENSOR_MAKERS or not isinstance(args, tuple):
            raise RefusedPickle("a tensor that something else than torch's own functions makes")
        return self.makers[name](*args)

    def encoded(self, text: Any, codec: Any = "utf-8", *_: Any) -> Record:
        """Stands in for ``_codecs.encode``: one text may be turned into bytes again and again."""
        if not isinstance(text, str) or codec not in _CODECS:
            raise RefusedPickle("bytes that are made in an unusual way")
        self.n_encoded += 2 * len(text)
        return Record("_codecs.encode", (codec,))

    @property
    def makers(self) -> dict[str, Callable[..., Any]]:
        return {
            **TENSOR_MAKERS,
            **{name: partial(_container, name) for name in _CONTAINERS},
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._tensor._rebuild_from_type_v2": self.of_type,
            "_codecs.encode": self.encoded,
        }


def _container(name: str, *args: Any) -> Record:
    # Of each letter an entry: far more than the text takes, and as often as the file says.
    if any(isinstance(arg, str) for arg in args):
        raise RefusedPickle("a container that is made from a text")
    return Record(name, args)


def read_storage(window: Window) -> Storage:
    """Stands in for ``torch.storage._load_from_bytes``: one storage in the container before zip."""
    made = _read_old_container(window, {}, STORAGE_NAMES, _storage)
    header = window.read(8)
    if not isinstance(made, Storage) or int.from_bytes(header, "little") != made.n:
        raise DamagedPickle("a storage with two different sizes")
    if window.end - window.position < made.n_bytes:
        raise RefusedPickle(
            f"a storage of {made.n:,} numbers in {window.end - window.position} bytes"
        )
    return Storage(made.key, made.dtype, made.n, window.position)


def _read_old_container(
    window: Window,
    makers: Mapping[str, Callable[..., Any]],
    names: frozenset[str],
    persistent: Callable[[Any], Any],
) -> Any:
    """The object of a container before zip; the window is left where the storages' bytes begin."""
    if pickled.read(window, {}) != _MAGIC:
        raise DamagedPickle("not a file of torch.save")
    for _ in ("protocol version", "byte order and sizes of C types"):
        pickled.read(window, {})
    content = pickled.read(window, makers, names, persistent)
    pickled.read(window, {})  # keys of the storages, in order
    return content


def require_harmless(path: str | os.PathLike) -> bool:
    """Refuse a ``.pt`` that asks for more memory than its own size, or for endless time.

    ``torch.load(weights_only=True)`` afterwards judges once more what may be made.

    Returns: whether it is a zip container, else it is of the kind before.

    Raises:
        RefusedPickle: a compressed container, a tensor larger than its storage, a storage larger than its
            bytes, tensors that together are larger than the file.
        DamagedPickle: neither kind of file that torch.save writes, or not all of it.
    """
    size = Path(path).stat().st_size
    tensors = _Tensors()
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        room = _scan_zip(path, size, tensors)
        for key, storage in tensors.storages.items():
            if storage.n_bytes > room.get(key, 0):
                raise RefusedPickle(
                    f"a storage of {storage.n_bytes:,} bytes where the file holds {room.get(key, 0):,}"
                )
    else:
        with open(path, "rb") as file:
            window = Window(file, 0, size)
            _read_old_container(window, tensors.makers, _NAMES, tensors.storage)
            if sum(s.n_bytes for s in tensors.storages.values()) > size - window.position:
                raise DamagedPickle("its tensors are larger than the file")
    # (Twice: tensors may share a storage, in a state dict and in an optimizer, say.)
    if tensors.n_encoded > 4 * size:
        raise RefusedPickle(
            f"texts of {tensors.n_encoded // 2:,} letters in a file of {size:,} bytes"
        )
    if tensors.n_bytes > 2 * size:
        raise RefusedPickle(f"tensors of {tensors.n_bytes:,} bytes in a file of {size:,}")
    return is_zip


def _scan_zip(path: str | os.PathLike, size: int, tensors: _Tensors) -> dict[str, int]:
    """Read the pickle of a zip container; returns the bytes that it holds for each storage key."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED for m in members):
                raise RefusedPickle("compressed members, which torch.save never writes")
            # torch's own reader takes names for equal that differ by case.
            if len({m.filename.casefold() for m in members}) < len(members):
                raise RefusedPickle("two members of one name")
            if sum(m.file_size for m in members) > size:
                raise RefusedPickle("members that are larger than the file")
            (pickle,) = (m for m in members if m.filename.partition("/")[2] == "data.pkl")
            # In memory at once, as torch will have it too: thousands of small reads from a zip are slow.
            data = archive.read(pickle)
            _require_same_for_torch(path, members, data)
            window = Window(io.BytesIO(data), 0, len(data))
            pickled.read(window, tensors.makers, _NAMES, tensors.storage)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise DamagedPickle(f"not a readable zip container: {error}") from None
    except ValueError as error:
        if isinstance(error, RefusedPickle | DamagedPickle):
            raise
        raise DamagedPickle("a zip container without one data.pkl") from None
    return {m.filename.partition("/data/")[2]: m.file_size for m in members}


def _require_same_for_torch(
    path: str | os.PathLike, members: Sequence[zipfile.ZipInfo], data: bytes
) -> None:
    """Refuse a file in which the reader that loads it would find another pickle, or other members."""
    try:
        reader = torch._C.PyTorchFileReader(os.fspath(path))
        records, theirs = set(reader.get_all_records()), reader.get_record("data.pkl")
    except RuntimeError as error:
        raise DamagedPickle(f"not a readable zip container: {str(error).splitlines()[0]}") from None
    if theirs != data or records != {m.filename.partition("/")[2] for m in members}:
        raise RefusedPickle("a zip container that can be read in two ways")
