"""``%itx``: connect, tree, append, read, status.

Each command gives back what it shows, so that ``x = %itx read /a`` works; an error is shown in its place.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any, Final

from IPython.core.magic import Magics, line_magic, magics_class

from itx_notebook.display import InlineError, Line
from itx_notebook.errors import ItxError
from itx_notebook.frames import to_frame
from itx_notebook.magics.session import Session
from itx_notebook.types import UNSET

__all__ = ["ItxMagics"]

_USAGE: Final = """\
%itx connect [PROJECT]        narrow the handle `itx` to a project
%itx tree [PATH]              show the stream tree, live
%itx append PATH TYPE [JSON]  append an event
%itx read PATH                the events of a stream, as a DataFrame
%itx status                   what the handle holds, and how the engine is"""


@magics_class
class ItxMagics(Magics):
    """The line magic ``%itx``."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    @line_magic
    def itx(self, line: str) -> Any:
        """Work with event streams.

        ::

            %itx connect [PROJECT]        narrow the handle `itx` to a project
            %itx tree [PATH]              show the stream tree, live
            %itx append PATH TYPE [JSON]  append an event
            %itx read PATH                the events of a stream, as a DataFrame
            %itx status                   what the handle holds, and how the engine is
        """
        command, _, rest = line.strip().partition(" ")
        if not command:
            return Line(_USAGE)
        commands: dict[str, Callable[[str], Any]] = {
            "append": self._append,
            "connect": self._connect,
            "read": self._read,
            "status": self._status,
            "tree": self._tree,
        }
        try:
            run = commands.get(command)
            if run is None:
                raise ItxError(
                    f"%itx has no command {command!r}.",
                    code="BAD_REQUEST",
                    hint=f"It has {', '.join(commands)}; %itx alone lists them with their arguments.",
                )
            return run(rest.strip())
        except Exception as error:
            return InlineError(error, doing=f"%itx {line.strip()}")

    def _connect(self, rest: str) -> Any:
        words = _split(rest, at_most=1, usage="%itx connect [PROJECT]")
        return self.session.describe(self.session.connect(words[0] if words else None))

    def _tree(self, rest: str) -> Any:
        words = _split(rest, at_most=1, usage="%itx tree [PATH]")
        return self.session.handle.tree(words[0] if words else "/")

    def _append(self, rest: str) -> Any:
        usage = "%itx append PATH TYPE [JSON]"
        path, _, after_path = rest.partition(" ")
        kind, _, text = after_path.strip().partition(" ")
        if not path or not kind:
            raise _wrong_use(rest, usage)
        payload: Any = UNSET
        if text.strip():
            try:
                payload = json.loads(text)
            except ValueError as error:
                raise ItxError(
                    f"The payload {text.strip()!r} is not JSON: {error}.",
                    code="BAD_REQUEST",
                    hint='Write it as JSON, for example {"n": 1, "name": "a"}; nothing was appended.',
                ) from None
        event = self.session.handle.streams.get(path).append(kind, payload)
        return Line(f"{event.stream_path}: event {event.offset}, {event.type}")

    def _read(self, rest: str) -> Any:
        words = _split(rest, at_least=1, at_most=1, usage="%itx read PATH")
        return to_frame(self.session.handle.streams.get(words[0]).read(presence=False))

    def _status(self, rest: str) -> Any:
        _split(rest, at_most=0, usage="%itx status")
        handle = self.session.try_handle
        if handle is None:
            return Line("itx: not connected\n→ %itx connect [PROJECT]")
        return self.session.describe(handle)


def _split(text: str, *, usage: str, at_least: int = 0, at_most: int) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError:
        raise _wrong_use(text, usage) from None
    if not at_least <= len(words) <= at_most:
        raise _wrong_use(text, usage)
    return words


def _wrong_use(text: str, usage: str) -> ItxError:
    return ItxError(f"Arguments {text!r} do not fit.", code="BAD_REQUEST", hint=f"Use: {usage}")
