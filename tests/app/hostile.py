"""Exceptions and return values that harm whoever looks at them."""

from collections.abc import Callable
from typing import Any


class RaisingClass(Exception):
    """``isinstance()`` with another class than its own raises."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("its class")


class ExitingClass(Exception):
    """``isinstance()`` with another class than its own ends the thread."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("its class")


class LyingClass(Exception):
    """Says that it is of a class that ends a run in another way."""

    @property
    def __class__(self) -> Any:
        return int


class ExitingText(Exception):
    """Printing it ends the thread."""

    def __str__(self) -> str:
        raise SystemExit("its text")

    __repr__ = __str__


class RaisingAttributes(Exception):
    """Reading most of its attributes raises."""

    def __getattribute__(self, name: str) -> Any:
        raise GeneratorExit(name)


class RaisingTraceback(BaseException):
    """A logger cannot take its traceback."""

    @property
    def __traceback__(self) -> Any:
        raise KeyboardInterrupt("its traceback")

    @__traceback__.setter
    def __traceback__(self, _value: Any) -> None:
        raise KeyboardInterrupt("its traceback")


class RaisingCause(Exception):
    """Its cause raises."""

    @property
    def __cause__(self) -> Any:
        raise SystemExit("its cause")


class Incomparable(BaseException):
    """Comparing it, or asking whether it is true, ends the thread."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit("compared")

    def __bool__(self) -> bool:
        raise SystemExit("asked")

    def __hash__(self) -> int:
        raise SystemExit("hashed")

    def __reduce__(self) -> Any:
        raise SystemExit("pickled")


class RaisingMeta(type):
    """A class that cannot be asked for its name."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__module__", "__qualname__", "__name__", "__mro__"}:
            raise SystemExit(name)
        return super().__getattribute__(name)


class Unnamed(Exception, metaclass=RaisingMeta):
    """Its class raises when it is asked for its name."""


class NumberedModule(Exception):
    """Its class has a module that is no text."""


class ListedModule(Exception):
    """Its class has a module that is no text and cannot be a key."""


class Odd(str):
    """A text that raises when it is used."""

    def __hash__(self) -> int:
        raise SystemExit("hashed")

    def __format__(self, spec: str) -> str:
        raise SystemExit("formatted")

    def __str__(self) -> str:
        raise SystemExit("printed")


class OddModule(Exception):
    """Its class has a module whose text raises."""


def _without_module() -> type[BaseException]:
    given: dict[str, Any] = {}
    exec("made = type('WithoutModule', (Exception,), {})", given)  # noqa: S102 - its globals have no __name__
    made: type[BaseException] = given["made"]
    return made


WithoutModule = _without_module()
type.__setattr__(NumberedModule, "__module__", 42)
type.__setattr__(ListedModule, "__module__", [])
type.__setattr__(OddModule, "__module__", Odd("odd"))

EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    one.__name__: one
    for one in (
        RaisingClass,
        ExitingClass,
        LyingClass,
        ExitingText,
        RaisingAttributes,
        RaisingTraceback,
        RaisingCause,
        Incomparable,
        WithoutModule,
        NumberedModule,
        ListedModule,
        OddModule,
        SystemExit,
        GeneratorExit,
        StopIteration,
        KeyboardInterrupt,
    )
} | {"Unnamed": Unnamed}


class RaisingItems(dict[str, Any]):
    """Turning it into JSON ends the thread."""

    def items(self) -> Any:
        raise SystemExit("its items")


class RaisingList(list[Any]):
    """Turning it into JSON ends the thread."""

    def __iter__(self) -> Any:
        raise GeneratorExit("its parts")


class RaisingKind:
    """Asking for its class ends the thread."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("its class")


VALUES: dict[str, Callable[[], Any]] = {
    "RaisingItems": lambda: RaisingItems(one=1),
    "RaisingList": lambda: RaisingList([1]),
    "RaisingKind": RaisingKind,
}
