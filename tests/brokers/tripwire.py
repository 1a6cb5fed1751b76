"""Notices when this process unpickles, imports or evaluates what it was given."""

import builtins
import importlib
import marshal
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EVENTS = {"exec", "compile", "import", "marshal.loads", "os.system", "pickle.find_class"}
FUNCTIONS = {
    pickle.loads: "pickle.loads",
    pickle.load: "pickle.load",
    marshal.loads: "marshal.loads",
    builtins.eval: "eval",
    builtins.exec: "exec",
}
CODE = {
    importlib.import_module.__code__: "import_module",
}
OWN = ("celery.", "kombu.")  # what these libraries look up of their own, whatever a row says


class Tripwire:
    """Collects what has happened while it was armed."""

    def __init__(self) -> None:
        self.noticed: list[str] = []
        self._armed = False
        sys.addaudithook(self._audited)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Watch what this thread calls, and what the process imports, compiles and unpickles."""
        self._armed = True
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._armed = False

    def _audited(self, event: str, values: tuple[Any, ...]) -> None:
        if self._armed and event in EVENTS:
            self.noticed.append(f"{event} {values[:2]!r:.200}")

    def _called(self, frame: Any, event: str, value: Any) -> None:
        if event == "c_call":
            name = FUNCTIONS.get(value) if value.__hash__ else None
        else:
            name = CODE.get(frame.f_code) if event == "call" else None
        if name:
            given = "" if event == "c_call" else str(frame.f_locals["name"])
            if not given.startswith(OWN):
                self.noticed.append(f"{name}({given}) in {frame.f_code.co_qualname}")
