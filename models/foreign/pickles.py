"""A safe reader of pickles: an interpreter of the few opcodes that `torch.save` writes.

A pickle is a program: `REDUCE` calls any function that `GLOBAL` names. Here names are kept as
names and nothing is imported. Calls of known functions are replaced by plain data, an instance of
any other class becomes an empty `Placeholder`, and every other call is an error.
"""

import pickletools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from aalbert.errors import IntegrityError

DAMAGE_ERRORS = (
    *(ValueError, IndexError, KeyError, TypeError, AttributeError),
    *(DeprecationWarning, SyntaxWarning),
)
# The stack entry below the items of a list, a dictionary or a tuple that is being built.
MARK = object()
CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK}
VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
)


@dataclass(frozen=True)
class Name:
    """A name in a pickle, `module.attribute`, that is not imported."""

    text: str


@dataclass(frozen=True)
class Persistent:
    """A reference of a pickle to an outside object: with `torch.save`, a storage."""

    key: Any


class Placeholder:
    """An empty object in place of one that is not needed."""


# A replacement for a function that a pickle calls: it makes plain data from the arguments alone.
Replacement = Callable[..., Any]
PLAIN_KEYS = (str, int, float, bytes, type(None), Name)


class Interpreter:
    """An interpreter for one pickle.

    `replacements` are called instead of the functions that the pickle names. Raises
    `IntegrityError` for a call, an opcode or a key that no plain checkpoint has.
    """

    def __init__(self, replacements: Mapping[str, Replacement]) -> None:
        self.replacements = replacements
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, stream: BinaryIO) -> Any:
        """Return the object of the pickle at the stream's position, and stop at its end."""
        try:
            with warnings.catch_warnings():
                # Of a name with a backslash, which no name has. Which, is up to Python's version.
                warnings.simplefilter("error", DeprecationWarning)
                warnings.simplefilter("error", SyntaxWarning)
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "STOP":
                        return self.pop(1)[0]
                    self.step(opcode.name, argument)
        # A damaged pickle causes these errors in pickletools, on the stack, or in a replacement.
        except DAMAGE_ERRORS as error:
            raise IntegrityError(f"its pickle is damaged: {error}") from error
        raise IntegrityError("its pickle has no end")

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        if opcode in VALUES:
            stack.append(argument)
        elif opcode in CONSTANTS:
            stack.append(CONSTANTS[opcode])
        elif opcode in ("PROTO", "FRAME"):
            pass
        elif not self.build(opcode) and not self.refer(opcode, argument):
            raise IntegrityError(
                f"its pickle has the opcode {opcode}, which no plain checkpoint has"
            )

    def build(self, opcode: str) -> bool:
        """Make or fill a list, a dictionary or a tuple; return False for any other opcode."""
        stack = self.stack
        match opcode:
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.pop(int(opcode[-1]))))
            case "TUPLE":
                stack.append(tuple(self.pop_to_mark()))
            case "APPEND":
                extend(self.pop(1), stack[-1])
            case "APPENDS":
                extend(self.pop_to_mark(), stack[-1])
            case "SETITEM":
                set_items(self.pop(2), stack[-1])
            case "SETITEMS":
                set_items(self.pop_to_mark(), stack[-1])
            case _:
                return False
        return True

    def refer(self, opcode: str, argument: Any) -> bool:
        """Execute opcodes for names, calls and the memo; return False for any other opcode."""
        stack = self.stack
        match opcode:
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(Name(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(Name(".".join(self.pop(2))))
            case "BINPERSID":
                stack.append(Persistent(stack.pop()))
            case "REDUCE":
                stack.append(self.call(*self.pop(2)))
            case "NEWOBJ":
                stack.append(self.instance(*self.pop(2)))
            case "BUILD":
                self.pop(1)  # attributes of an instance: nothing here has any
            case _:
                return False
        return True

    def call(self, function: Any, arguments: Any) -> Any:
        """Return the result of a function's replacement; raise `IntegrityError` if it has none."""
        name = function.text if isinstance(function, Name) else f"a {type(function).__name__}"
        if name not in self.replacements:
            raise IntegrityError(f"its pickle calls {name}, which no plain checkpoint does")
        return self.replacements[name](*arguments)

    def instance(self, kind: Any, arguments: Any) -> Any:
        """Return the replacement of a new object of a class, or a `Placeholder`."""
        if isinstance(kind, Name) and kind.text in self.replacements:
            return self.replacements[kind.text](*arguments)
        return Placeholder()

    def pop(self, count: int) -> list[Any]:
        """Remove the last objects from the stack and return them."""
        items = self.stack[-count:]
        if len(items) < count or any(item is MARK for item in items):
            raise IndexError("the stack has too few objects")
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        """Remove the last mark and everything above it from the stack; return the objects."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]


def extend(items: Iterable[Any], target: Any) -> None:
    """Append to a list; do nothing for a `Placeholder`."""
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Placeholder):
        raise TypeError(f"a {type(target).__name__} where a list was expected")


def set_items(items: list[Any], target: Any) -> None:
    """Set keys and values of a dictionary; do nothing for a `Placeholder`.

    Keys must be plain: computing the hash of nested tuples can take forever.
    """
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, PLAIN_KEYS):
            raise TypeError(f"a {type(key).__name__} as a key")
        if isinstance(target, dict):
            target[key] = value
        elif not isinstance(target, Placeholder):
            raise TypeError(f"a {type(target).__name__} where a dictionary was expected")


def make_dictionary(pairs: Iterable[Iterable[Any]] = ()) -> dict[Any, Any]:
    """Return a dictionary of these pairs, with plain keys."""
    dictionary: dict[Any, Any] = {}
    set_items([item for pair in pairs for item in pair], dictionary)
    return dictionary
