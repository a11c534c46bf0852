"""Pickles read as inert data: nothing is imported or called, and nothing larger than the file is made.

``pickle.Unpickler`` with a restricted ``find_class`` stops code, but not a few bytes that ask for gigabytes
(a memo index, a shape) or for years (the hash of nested tuples). So the opcodes are interpreted here: what a
pickle would call becomes a :class:`Record`, unless the caller gives a function of its own for the name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# A full-size network with its optimizer takes about 100,000; a million takes two seconds.
MAX_OPCODES = 1_000_000
# Dict keys and members of sets: types whose hash costs no more than their size.
SCALARS = (str, int, float, type(None))
# Entries of all containers, shared ones counted wherever they stand: what printing or comparing takes.
MAX_UNFOLDED = 4 * MAX_OPCODES
MAX_BITS = 4096  # of a whole number; printing a larger one takes the square of its length
MAX_KEY = 1 << 48  # the hashes of larger integers repeat: a dict of them could take days

_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_STRINGS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")
_ARGUMENTS = {*_NUMBERS, *_STRINGS, "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}


class RefusedPickle(ValueError):
    """The pickle holds what may not be read; the message names it."""


class DamagedPickle(ValueError):
    """The bytes are no complete pickle; the message says why."""


@dataclass(frozen=True)
class Global:
    """A class or function that the pickle names."""

    name: str  # with its module


@dataclass
class Record:
    """An object that the pickle asks for."""

    name: str  # of the class or function
    args: tuple[Any, ...]  # of the call
    state: Any = None  # what its attributes would be set from


@dataclass(frozen=True)
class Span:
    """Bytes left where they are in the file."""

    start: int
    length: int


class Window:
    """A stretch of a file as a stream; what a length asks for beyond its end is not allocated."""

    def __init__(
        self,
        file: BinaryIO,
        start: int,  # first byte
        end: int,  # byte after the last
    ) -> None:
        self.file, self.position, self.end = file, start, end

    def read(self, n: int) -> bytes:
        """At most n bytes, none behind the window's end."""
        self.file.seek(self.position)
        data = self.file.read(max(0, min(n, self.end - self.position)))
        self.position += len(data)
        return data

    def readline(self) -> bytes:
        """A line, cut at the window's end."""
        self.file.seek(self.position)
        data = self.file.readline(self.end - self.position)
        self.position += len(data)
        return data

    def tell(self) -> int:
        """Position in the file."""
        return self.position


def read(
    stream: Window,
    makers: Mapping[str, Callable[..., Any]],
    names: frozenset[str] = frozenset(),
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """One pickle from the stream, which is left after it.

    Args:
        makers: what stands in for the classes and functions of these names; called with the pickle's
            arguments, where bytes are a :class:`Span`.
        names: further names that may occur, as :class:`Global` and :class:`Record`.
        persistent: what stands in for the unpickler's ``persistent_load``.

    Raises:
        RefusedPickle: another name, another kind of opcode or key, more than ``MAX_OPCODES``, or see
            :func:`require_bounded`.
        DamagedPickle: no pickle, or not all of it.
    """
    machine = _Machine(stream, makers, names, persistent)
    try:
        # (The type says IO[bytes]; what is called are read, readline and tell.)
        for n, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
            if n >= MAX_OPCODES:
                raise RefusedPickle(f"more than {MAX_OPCODES:,} pickle instructions")
            machine.step(opcode.name, argument)
        require_bounded(machine.stack[-1])
        return machine.stack[-1]
    except (RefusedPickle, DamagedPickle):
        raise
    except Exception as error:  # operands of any wrong kind
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise DamagedPickle(f"not a complete pickle: {text}") from None


class _Machine:
    """The stack and memo of a pickle. Each ``op_*`` is the opcode of that name in pickletools."""

    def __init__(
        self,
        stream: Window,
        makers: Mapping[str, Callable[..., Any]],
        names: frozenset[str],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.stream, self.makers, self.names, self.persistent = stream, makers, names, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _BYTES:
            length = len(argument)
            self.stack.append(Span(self.stream.tell() - length, length))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in ("PROTO", "FRAME", "STOP"):
            operation = getattr(self, f"op_{name.lower()}", None)
            if operation is None:
                raise RefusedPickle(f"the pickle instruction {name}")
            operation(argument)

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def op_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def op_pop(self, _: None) -> None:
        self.stack.pop()

    def op_pop_mark(self, _: None) -> None:
        self._above_mark()

    def op_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def op_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def op_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    op_binput = op_long_binput = op_put
    op_binget = op_long_binget = op_get

    def op_append(self, _: None) -> None:
        item = self.stack.pop()
        self._extend([item])

    def op_appends(self, _: None) -> None:
        items = self._above_mark()
        self._extend(items)

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], Record):  # of a kind of list
            _of_kind(self.stack[-1], list).extend(items)

    def op_list(self, _: None) -> None:
        items = self._above_mark()
        self.stack.append(items)

    def op_tuple(self, _: None) -> None:
        items = self._above_mark()
        self.stack.append(tuple(items))

    def _last(self, n: int) -> None:
        items = tuple(self.stack[-n:])
        if len(items) < n:
            raise DamagedPickle("not a complete pickle: its stack is empty")
        self.stack[-n:] = [items]

    def op_tuple1(self, _: None) -> None:
        self._last(1)

    def op_tuple2(self, _: None) -> None:
        self._last(2)

    def op_tuple3(self, _: None) -> None:
        self._last(3)

    def _set_items(self, target: Any, items: list[Any]) -> None:
        pairs = dict(zip(map(_hashable, items[::2]), items[1::2], strict=True))
        if not isinstance(target, Record):  # of a kind of dict
            _of_kind(target, dict).update(pairs)

    def op_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items(self.stack[-1], [key, value])

    def op_setitems(self, _: None) -> None:
        items = self._above_mark()
        self._set_items(self.stack[-1], items)

    def op_dict(self, _: None) -> None:
        items = self._above_mark()
        self.stack.append({})
        self._set_items(self.stack[-1], items)

    def op_additems(self, _: None) -> None:
        items = self._above_mark()
        _of_kind(self.stack[-1], set).update(map(_hashable, items))

    def op_frozenset(self, _: None) -> None:
        items = self._above_mark()
        self.stack.append(frozenset(map(_hashable, items)))

    def _push_global(self, name: str) -> None:
        if name not in self.names and name not in self.makers:
            raise RefusedPickle(name)
        self.stack.append(Global(name))

    def op_global(self, module_and_name: str) -> None:
        self._push_global(module_and_name.replace(" ", "."))

    def op_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._push_global(f"{_of_kind(module, str)}.{_of_kind(name, str)}")

    def op_reduce(self, _: None) -> None:
        args, function = _of_kind(self.stack.pop(), tuple), _of_kind(self.stack.pop(), Global)
        maker = self.makers.get(function.name)
        self.stack.append(Record(function.name, args) if maker is None else maker(*args))

    op_newobj = op_reduce

    def op_build(self, _: None) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Record):
            self.stack[-1].state = state
        else:  # attributes of a dict: torch's notes on a state dict
            _of_kind(self.stack[-1], dict)

    def op_binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise RefusedPickle("a reference to something outside the pickle")
        self.stack.append(self.persistent(self.stack.pop()))


def _of_kind(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise DamagedPickle(
            f"not a complete pickle: a {type(value).__name__} where a {kind.__name__} must be"
        )
    return value


def _hashable(key: Any) -> Any:
    # The hash of a tuple of tuples of one tuple takes exponential time: one level is allowed.
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, SCALARS) or (isinstance(part, int) and abs(part) > MAX_KEY):
            raise RefusedPickle(f"a key of type {type(key).__name__} in a dict or set")
    return key


def require_bounded(value: Any) -> None:
    """Refuse containers that are small only because they share their parts, or that hold themselves.

    Raises:
        RefusedPickle: unfolded, it has too many entries, or a whole number in it too many digits.
    """
    sizes: dict[int, int] = {}  # unfolded entries of each container, by identity
    entered: set[int] = set()
    stack = [value]
    while stack:
        top = stack[-1]
        if id(top) in sizes:
            stack.pop()
            continue
        parts = _parts(top)
        if id(top) not in entered:
            entered.add(id(top))
            missing = [part for part in parts if id(part) not in sizes]
            # What is entered and not yet counted stands above: an object may know its owner, a list not.
            if any(id(part) in entered and _is_container(part) for part in missing):
                raise RefusedPickle("a container that holds itself")
            stack += [part for part in missing if id(part) not in entered]
            if missing:
                continue
        sizes[id(top)] = 1 + sum(sizes.get(id(part), 1) for part in parts)
        if sizes[id(top)] > MAX_UNFOLDED:
            raise RefusedPickle(f"containers of more than {MAX_UNFOLDED:,} entries, unfolded")
        stack.pop()


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | set | frozenset)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise RefusedPickle(f"a whole number of {value.bit_length():,} bits")
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") else []
