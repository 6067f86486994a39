"""A machine for the pickle operations that plain data needs, in time and memory of the file's size.

A pickle is a program for a stack machine. Python's own machine trusts it: a few hundred bytes can
keep it busy for ever (a pair of twice the same pair, forty times over, as the key of a dict: the
hash visits 2^40 entries), make it take 64 GiB (the memo's slot 2^32 - 1) or overflow the stack of
C. This one knows what lists, dicts, tuples, numbers, texts and calls of a few given functions need,
counts its operations, and takes texts alone as keys.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from experiments.datasets.dataset import DatasetError
from experiments.values import short

OPERATIONS = 1_000_000
"""Operations that are run at most; a batch of CIFAR-10, 10,000 images, takes some 30,000."""
DIGITS = 1000
"""Characters of a written number, and bytes of a packed one, at most."""


class Function:
    """A function that a pickle may call, and cannot change."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call


@runtime_checkable
class Built(Protocol):
    """What a function made that takes its state from an operation of its own."""

    def build(self, state: object) -> None:
        """Take over a state that comes from the file."""


class Machine:
    """Runs one pickle.

    Parameters
    ----------
    content
        The program; what follows its end is not looked at.
    names
        Functions that it may name, by module and name.

    Attributes
    ----------
    place
        Bytes that were read.
    """

    def __init__(self, content: bytes, names: Mapping[tuple[str, str], Function]) -> None:
        self.place = 0
        self._content, self._names = content, names
        self._stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._made = 0

    def run(self) -> object:
        """Return what the pickle leaves on the stack.

        Raises
        ------
        DatasetError
            It names another function, needs an operation that plain data does not, takes too many
            operations, or makes more bytes than it has.
        Exception
            Nearly any, where it is damaged.
        """
        for _ in range(OPERATIONS):
            code = self.take(1)
            if code == pickle.STOP:
                if len(self._stack) != 1 or self._marked:
                    raise ValueError("it ends with values left over")
                return self._stack.pop()
            if code in _VALUES:
                self.push(_VALUES[code](self))
            elif code in _ACTIONS:
                _ACTIONS[code](self)
            else:
                raise DatasetError(
                    f"operation {code!r} at byte {self.place - 1}, which plain data does not need"
                )
        raise DatasetError(
            f"takes more than {OPERATIONS:,} operations, which a batch of images does not need"
        )

    # -- reading ------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        found = self._content[self.place : self.place + count]
        if len(found) < count:
            raise ValueError(f"it ends after {len(self._content):,} bytes, within an operation")
        self.place += count
        return found

    def number(self, form: str) -> int:
        """Return the next integer, packed as :mod:`struct` names it."""
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def sized(self, form: str) -> bytes:
        """Return the bytes whose count comes first."""
        count = self.number(form)
        if count < 0:
            raise ValueError(f"a text of {count} bytes")
        return self.take(count)

    def line(self) -> bytes:
        """Return the bytes up to the end of the line."""
        end = self._content.index(b"\n", self.place)
        found = self.take(end - self.place)
        self.place += 1
        return found

    def digits(self) -> str:
        """Return a line that holds a number."""
        found = self.line().decode("ascii")
        if len(found) > DIGITS:
            raise DatasetError(f"a number of {len(found):,} digits; {DIGITS} are read")
        return found

    # -- the stack ----------------------------------------------------------------------------

    def mark(self) -> None:
        """Begin a new row of values."""
        self._marked.append(self._stack)
        self._stack = []

    def row(self) -> list[object]:
        """Take the values since the last mark."""
        found, self._stack = self._stack, self._marked.pop()
        return found

    def top(self, count: int) -> list[object]:
        """Take the last values."""
        if count > len(self._stack):
            raise ValueError("an operation lacks its values")
        found = self._stack[-count:]
        del self._stack[-count:]
        return found

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def add(self, values: list[object]) -> None:
        """Append to the list on the stack."""
        last = self._stack[-1]
        if type(last) is not list:
            raise ValueError(f"appends to a {type(last).__name__}")
        last.extend(values)

    def update(self, values: list[object]) -> None:
        """Set entries, names and values by turns, of the dict on the stack."""
        last = self._stack[-1]
        if type(last) is not dict:
            raise ValueError(f"sets entries of a {type(last).__name__}")
        for name, value in zip(values[::2], values[1::2], strict=True):
            # Other keys are hashed in time that the file chooses: numbers collide, tuples nest.
            if not isinstance(name, str | bytes):
                raise DatasetError(f"a key of a dict is {short(name)}; keys are texts")
            last[name] = value

    # -- names --------------------------------------------------------------------------------

    def remember(self, slot: int | None = None) -> None:
        """Give the value on the stack a number to be had again by."""
        self._memo[len(self._memo) if slot is None else slot] = self._stack[-1]

    def recall(self, slot: int) -> None:
        """Put a numbered value on the stack."""
        if slot not in self._memo:
            raise ValueError(f"no value has the number {slot}")
        self._stack.append(self._memo[slot])

    def look_up(self, module: object, name: object) -> None:
        """Put a function on the stack."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        if (module, name) not in self._names:
            raise DatasetError(
                f"names {module[:60]}.{name[:60]}, which plain data does not need (do not open "
                "this file with anything else)"
            )
        self._stack.append(self._names[module, name])

    def call(self) -> None:
        """Call the function on the stack."""
        function, arguments = self.top(2)
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise DatasetError(f"calls {short(function)}, which is no function")
        made = function.call(*arguments)
        if isinstance(made, bytes):  # the only values that can be made again and again at length
            self._made += len(made)
            if self._made > len(self._content):
                raise DatasetError("makes more bytes than it has")
        self._stack.append(made)

    def build(self) -> None:
        """Give the value on the stack its state."""
        (state,) = self.top(1)
        last = self._stack[-1]
        if not isinstance(last, Built):
            kind = "function" if isinstance(last, Function) else type(last).__name__
            raise DatasetError(f"sets the state of a {kind}")
        last.build(state)


def _integer(machine: Machine) -> int | bool:
    text = machine.digits()
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _packed(machine: Machine, form: str) -> int:
    content = machine.sized(form)
    if len(content) > DIGITS:
        raise DatasetError(f"a number of {len(content):,} bytes; {DIGITS} are read")
    return int.from_bytes(content, "little", signed=True)


def _quoted(machine: Machine) -> bytes:
    """How Python 2 wrote a text in protocol 0."""
    text = machine.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise ValueError("a text without its quotes")
    return codecs.escape_decode(text[1:-1])[0]


def _text(machine: Machine, form: str) -> str:
    return machine.sized(form).decode("utf-8", "surrogatepass")


_VALUES: dict[bytes, Callable[[Machine], object]] = {
    pickle.NONE: lambda m: None,
    pickle.NEWTRUE: lambda m: True,
    pickle.NEWFALSE: lambda m: False,
    pickle.INT: _integer,
    pickle.BININT: lambda m: m.number("<i"),
    pickle.BININT1: lambda m: m.number("<B"),
    pickle.BININT2: lambda m: m.number("<H"),
    pickle.LONG: lambda m: int(m.digits().removesuffix("L")),
    pickle.LONG1: lambda m: _packed(m, "<B"),
    pickle.LONG4: lambda m: _packed(m, "<i"),
    pickle.FLOAT: lambda m: float(m.digits()),
    pickle.BINFLOAT: lambda m: struct.unpack(">d", m.take(8))[0],
    pickle.STRING: _quoted,
    pickle.BINSTRING: lambda m: m.sized("<i"),
    pickle.SHORT_BINSTRING: lambda m: m.sized("<B"),
    pickle.BINBYTES: lambda m: m.sized("<I"),
    pickle.SHORT_BINBYTES: lambda m: m.sized("<B"),
    pickle.BINBYTES8: lambda m: m.sized("<Q"),
    pickle.BYTEARRAY8: lambda m: m.sized("<Q"),
    pickle.UNICODE: lambda m: m.line().decode("raw-unicode-escape"),
    pickle.BINUNICODE: lambda m: _text(m, "<I"),
    pickle.SHORT_BINUNICODE: lambda m: _text(m, "<B"),
    pickle.BINUNICODE8: lambda m: _text(m, "<Q"),
    pickle.EMPTY_LIST: lambda m: [],
    pickle.EMPTY_DICT: lambda m: {},
    pickle.EMPTY_TUPLE: lambda m: (),
    pickle.LIST: lambda m: m.row(),
    pickle.TUPLE: lambda m: tuple(m.row()),
    pickle.TUPLE1: lambda m: tuple(m.top(1)),
    pickle.TUPLE2: lambda m: tuple(m.top(2)),
    pickle.TUPLE3: lambda m: tuple(m.top(3)),
}
"""Operations that put one value on the stack."""


def _dict(machine: Machine) -> None:
    entries = machine.row()
    machine.push({})
    machine.update(entries)


def _proto(machine: Machine) -> None:
    version = machine.number("<B")
    if version > pickle.HIGHEST_PROTOCOL:
        raise DatasetError(f"is of protocol {version}; 0 to {pickle.HIGHEST_PROTOCOL} are read")


_ACTIONS: dict[bytes, Callable[[Machine], object]] = {
    pickle.PROTO: _proto,
    pickle.FRAME: lambda m: m.take(8),
    pickle.MARK: Machine.mark,
    pickle.DICT: _dict,
    pickle.APPEND: lambda m: m.add(m.top(1)),
    pickle.APPENDS: lambda m: m.add(m.row()),
    pickle.SETITEM: lambda m: m.update(m.top(2)),
    pickle.SETITEMS: lambda m: m.update(m.row()),
    pickle.PUT: lambda m: m.remember(int(m.digits())),
    pickle.BINPUT: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.MEMOIZE: Machine.remember,
    pickle.GET: lambda m: m.recall(int(m.digits())),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    pickle.GLOBAL: lambda m: m.look_up(m.line().decode(), m.line().decode()),
    pickle.STACK_GLOBAL: lambda m: m.look_up(*m.top(2)),
    pickle.REDUCE: Machine.call,
    pickle.BUILD: Machine.build,
}
"""Operations that do anything else."""
