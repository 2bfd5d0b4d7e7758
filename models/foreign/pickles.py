"""Pickles without running anything: an interpreter of the few opcodes that `torch.save` writes.

A pickle is a program: `REDUCE` calls any function that `GLOBAL` names. Here a name stays a
name and nothing is imported. Calls of known functions are answered with plain data, an
instance of any other class becomes an empty `Inert`, and every other call is refused.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from aalbert.errors import IntegrityError

# Lies below the items of a list, a dictionary or a tuple that is being built.
MARK = object()
CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK}
VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
)


@dataclass(frozen=True)
class Name:
    """A name that a pickle asks for, `module.attribute`."""

    text: str


@dataclass(frozen=True)
class Persistent:
    """What a pickle refers to outside itself: with `torch.save`, a storage."""

    key: Any


class Inert:
    """Stands for an object that is not needed; it holds nothing and does nothing."""


# Answers a call with plain data, from its arguments alone.
Answer = Callable[..., Any]
PLAIN_KEYS = (str, int, float, bytes, type(None), Name)


class Interpreter:
    """Reads one pickle.

    `answers` says what the calls of known functions give. Raises `IntegrityError` for a
    call, an opcode or a key that no plain checkpoint has.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, stream: BinaryIO) -> Any:
        """Return the object of the pickle that begins here; the stream is left at its end."""
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.pop(1)[0]
                self.step(opcode.name, argument)
        # What a damaged program makes of pickletools, of the stack, or of an answer.
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"its pickle is damaged: {error}") from error
        raise IntegrityError("its pickle has no end")

    def step(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says."""
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
        """Make or fill a list, a dictionary or a tuple; false for any other opcode."""
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
        """Name, call, remember and recall objects; false for any other opcode."""
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
        """Answer a call, or refuse it."""
        name = function.text if isinstance(function, Name) else f"a {type(function).__name__}"
        if name not in self.answers:
            raise IntegrityError(f"its pickle calls {name}, which no plain checkpoint does")
        return self.answers[name](*arguments)

    def instance(self, kind: Any, arguments: Any) -> Any:
        """Return what stands for a new object of a class."""
        if isinstance(kind, Name) and kind.text in self.answers:
            return self.answers[kind.text](*arguments)
        return Inert()

    def pop(self, count: int) -> list[Any]:
        """Take the last objects off the stack."""
        items = self.stack[-count:]
        if len(items) < count or any(item is MARK for item in items):
            raise IndexError("there is nothing on the stack")
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        """Take everything above the last mark off the stack, and the mark."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]


def extend(items: Iterable[Any], target: Any) -> None:
    """Append to a list; an unknown object ignores it."""
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Inert):
        raise TypeError(f"a {type(target).__name__} where a list was expected")


def set_items(items: list[Any], target: Any) -> None:
    """Set keys and values of a dictionary; an unknown object ignores them.

    Keys are plain: the hash of nested tuples can take forever.
    """
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, PLAIN_KEYS):
            raise TypeError(f"a {type(key).__name__} as a key")
        if isinstance(target, dict):
            target[key] = value
        elif not isinstance(target, Inert):
            raise TypeError(f"a {type(target).__name__} where a dictionary was expected")


def inert(*_: Any) -> Inert:
    """Answer with an object that holds nothing."""
    return Inert()


def dictionary(pairs: Iterable[Iterable[Any]] = ()) -> dict[Any, Any]:
    """Answer with a dictionary of these pairs."""
    answer: dict[Any, Any] = {}
    set_items([item for pair in pairs for item in pair], answer)
    return answer
