"""A safe reader of pickles: an interpreter of the few opcodes that `torch.save` writes.

A pickle is a program: `REDUCE` calls any function that `GLOBAL` names. Here names are kept as
names and nothing is imported. Calls of known functions are replaced by plain data, an instance of
any other class becomes an empty `Placeholder`, and every other call is an error.

A pickle costs no more than its size allows, in memory and in steps: there are `MOST_OPCODES`, each
of which makes one object; a call copies its arguments, so all calls together may be given only a
few objects for every opcode; names and numbers have a greatest length; and the object that is read
is within `check_extent`.
"""

import pickletools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from aalbert.errors import IntegrityError
from aalbert.models.extent import check_extent

# A checkpoint has a few dozen opcodes for a tensor, so some ten thousand.
MOST_OPCODES = 1_000_000
# A rebuilt tensor takes 20 opcodes, and its call is given 10 objects.
MOST_GIVEN_PER_OPCODE = 4
# Values of a checkpoint are shared seldom: settings that are there twice.
MOST_VALUES_PER_OPCODE = 16
LONGEST_NAME = 1_000
# The largest numbers in checkpoints are the states of random generators.
LONGEST_NUMBER_BITS, LONGEST_KEY_BITS = 512, 64
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
    `IntegrityError` for a call, an opcode or a key that no plain checkpoint has, and for what
    would take more memory or time than the pickle's size allows.
    """

    def __init__(self, replacements: Mapping[str, Replacement]) -> None:
        self.replacements = replacements
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.opcodes = 0
        # Objects in the arguments of all calls.
        self.given = 0

    def read(self, stream: BinaryIO) -> Any:
        """Return the object of the pickle at the stream's position, and stop at its end."""
        try:
            with warnings.catch_warnings():
                # Of a name with a backslash, which no name has. Which, is up to Python's version.
                warnings.simplefilter("error", DeprecationWarning)
                warnings.simplefilter("error", SyntaxWarning)
                for opcode, argument, _ in pickletools.genops(stream):
                    if opcode.name == "STOP":
                        [document] = self.pop(1)
                        check_extent(document, MOST_VALUES_PER_OPCODE * self.opcodes)
                        return document
                    self.count_opcode()
                    self.step(opcode.name, argument)
        # A damaged pickle causes these errors in pickletools, on the stack, or in a replacement.
        except DAMAGE_ERRORS as error:
            raise IntegrityError(f"its pickle is damaged: {error}") from error
        raise IntegrityError("its pickle has no end")

    def count_opcode(self) -> None:
        """Raise `IntegrityError` when there are more opcodes than any checkpoint has."""
        self.opcodes += 1
        if self.opcodes > MOST_OPCODES:
            raise IntegrityError(
                f"its pickle has more than {MOST_OPCODES:,} opcodes, no checkpoint's has"
            )

    def step(self, opcode: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        if opcode in VALUES:
            if isinstance(argument, int) and argument.bit_length() > LONGEST_NUMBER_BITS:
                raise ValueError(f"a number of {argument.bit_length():,} bits")
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
                stack.append(make_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(make_name(*self.pop(2)))
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
        return self.replace(name, arguments)

    def instance(self, kind: Any, arguments: Any) -> Any:
        """Return the replacement of a new object of a class, or a `Placeholder`."""
        if isinstance(kind, Name) and kind.text in self.replacements:
            return self.replace(kind.text, arguments)
        return Placeholder()

    def replace(self, name: str, arguments: Any) -> Any:
        """Return what the replacement of a function makes of the arguments.

        Raises `IntegrityError` when calls are given so much that arguments must have been shared:
        each may copy them.
        """
        if not isinstance(arguments, tuple):
            raise TypeError(f"a {type(arguments).__name__} as arguments")
        inner = (len(each) for each in arguments if isinstance(each, (list, tuple, dict)))
        self.given += len(arguments) + sum(inner)
        if self.given > MOST_GIVEN_PER_OPCODE * self.opcodes:
            raise IntegrityError(
                f"its pickle gives the same objects to calls again and again: {self.given:,} of "
                f"{self.opcodes:,} opcodes, no checkpoint does"
            )
        return self.replacements[name](*arguments)

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


def make_name(module: Any, attribute: Any) -> Name:
    """Return a name; the same long texts may be joined at every opcode."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise TypeError("a name that is no text")
    if len(module) + len(attribute) > LONGEST_NAME:
        raise ValueError(f"a name of {len(module) + len(attribute):,} characters")
    return Name(f"{module}.{attribute}")


def extend(items: Iterable[Any], target: Any) -> None:
    """Append to a list; do nothing for a `Placeholder`."""
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Placeholder):
        raise TypeError(f"a {type(target).__name__} where a list was expected")


def set_items(items: list[Any], target: Any) -> None:
    """Set keys and values of a dictionary; do nothing for a `Placeholder`.

    Keys must be plain: computing the hash of nested tuples can take forever, and so can a
    dictionary of numbers that have one hash, as some large ones have.
    """
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, PLAIN_KEYS):
            raise TypeError(f"a {type(key).__name__} as a key")
        if isinstance(key, int) and key.bit_length() > LONGEST_KEY_BITS:
            raise ValueError(f"a number of {key.bit_length()} bits as a key")
        if isinstance(target, dict):
            target[key] = value
        elif not isinstance(target, Placeholder):
            raise TypeError(f"a {type(target).__name__} where a dictionary was expected")


def make_dictionary(pairs: Iterable[Iterable[Any]] = ()) -> dict[Any, Any]:
    """Return a dictionary of these pairs, with plain keys."""
    dictionary: dict[Any, Any] = {}
    set_items([item for key, value in pairs for item in (key, value)], dictionary)
    return dictionary
