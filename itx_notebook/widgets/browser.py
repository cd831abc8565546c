"""The stream tree in the notebook: a :class:`~itx_notebook.tree.LiveTree` at one end of a lossy comm.

The channel loses messages under load, so nothing is believed to have arrived: patches are numbered, a heartbeat carries
the current number, and a browser that sees a gap asks for the snapshot again. Everything is sent from the I/O thread,
which keeps the order; handlers, which may run on any thread, only pass on what was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
from pathlib import Path
from typing import Any, Final

import anywidget
import msgspec
import traitlets

from itx_notebook._clock import SystemClock
from itx_notebook._loop import get_io_loop, run_blocking
from itx_notebook.errors import ItxError
from itx_notebook.handle import AsyncItx, Itx, Stream
from itx_notebook.streams import parse_stream_path
from itx_notebook.tree import SORTS, LiveTree, make_node_error, render_html, render_page, render_text
from itx_notebook.tree.packing import pack_snapshot
from itx_notebook.widgets.cells import Execution, follow_cells, try_get_execution, unfollow_cells
from itx_notebook.widgets.lifetime import Lifetime
from itx_notebook.widgets.requests import RELOAD, AppendRequest, CreateRequest, PageRequest, Requests, parse_request

__all__ = ["StreamTreeBrowser"]

_log = logging.getLogger("itx_notebook")

_STATIC: Final = Path(__file__).parent / "static"
_HEARTBEAT: Final = 2.0
"""Seconds between heartbeats; the browser takes three missing ones for a lost kernel."""
_ANSWER_REST: Final = 0.5
"""Seconds between two whole snapshots at the least: pages that ask at the same time are answered by one."""
_DEFAULT_HEIGHT: Final = 420
_TIMEOUT: Final = 30.0


def _read_static(name: str) -> str:
    try:
        return (_STATIC / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ItxError(
            f"The front end's file {name} is missing from the installation.",
            code="INTERNAL",
            details={"path": str(_STATIC / name)},
            hint="In a checkout: make build. Otherwise reinstall itx-notebook.",
        ) from None


class _ViewCount(msgspec.Struct):
    page: str
    count: int | None


class StreamTreeBrowser(anywidget.AnyWidget):
    """The tree of a project's streams, live. Made by ``itx.tree()``.

    Displayed, it paints at once from what is known and then follows. Where no widget can be drawn (a terminal, an
    export, an untrusted notebook) the same tree is shown as text or HTML.

    Attributes
    ----------
    selected_path : str or None
        The stream chosen in the browser; may be observed (``browser.observe(f, "selected_path")``, called on the thread
        that handled the click) and set.
    filter : str
        What is searched for; may be observed and set. Empty: no search.
    height : int
        Maximal height of the list, in CSS pixels.
    read_only : bool
        Whether nothing can be written from the browser; the kernel refuses it too. May be set at any time. Python's own
        handles write as ever.
    """

    _esm = _read_static("tree.js")

    snapshot = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(_DEFAULT_HEIGHT, min=60).tag(sync=True)
    read_only = traitlets.Bool(False).tag(sync=True)  # noqa: FBT003  # the default has no name
    filter = traitlets.Unicode("")
    selected_path = traitlets.Unicode(None, allow_none=True)

    def __init__(self, tree: LiveTree, *, height: int = _DEFAULT_HEIGHT, read_only: bool = False) -> None:
        self._tree = tree
        # Until the comm is open there is nobody to send to; get_state() answers from the tree from the start.
        self._is_connected = False
        self._has_front_end = False
        self._sent_seq = tree.seq
        self._requests = Requests(tree, self._tell, is_read_only=lambda: self.read_only)
        self._beat_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._answered_at = -_ANSWER_REST
        # NOTE: it closes on the I/O thread. A page that asks for the states of all widgets in that very moment may find
        # ipywidgets' registry changing under its question; it then asks for them one by one.
        self._lifetime = Lifetime(self.close, made_by=try_get_execution(), clock=SystemClock())
        super().__init__(height=height, read_only=read_only, selected_path=tree.get_snapshot().selected)
        self.on_msg(self._on_message)
        self.observe(self._on_selected_path, "selected_path")
        self.observe(self._on_filter, "filter")
        _keep_frontend_route(self)
        self._is_connected = True
        follow_cells(self)
        self._on_loop(self._open)

    # -- state -------------------------------------------------------------------------------------------------------

    def get_state(self, key: Any = None, drop_defaults: Any = False) -> Any:  # noqa: FBT002  # ipywidgets' signature
        """The synced traits, the snapshot always as of now: a reload, a save and a resync see the live tree."""
        if key is None or key == "snapshot" or (not isinstance(key, str) and "snapshot" in key):
            snapshot = self._tree.get_snapshot()
            self._trait_values["snapshot"] = pack_snapshot(snapshot)
        return super().get_state(key, drop_defaults)

    def __repr__(self) -> str:
        return render_text(self._tree.get_snapshot())

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        snapshot = self._tree.get_snapshot()
        if not self._is_connected:
            root = "" if snapshot.root == "/" else repr(snapshot.root)
            remark = f"This tree is closed. A live one: itx.tree({root})"
            text = f"{render_text(snapshot)}\n{remark}"
            return {"text/plain": text, "text/html": render_html(snapshot, remark=remark)}, {}
        self._on_loop(self._lifetime.note_display)
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": render_text(snapshot), "text/html": render_html(snapshot)}, metadata

    @property
    def selected(self) -> Stream | None:
        """The handle of the selected stream; ``None`` while none is selected.

        Raises
        ------
        ItxError
            The project can no longer be reached.
        """
        if self.selected_path is None:
            return None
        surface = run_blocking(self._tree.get_itx(), timeout=_TIMEOUT, what="selected")
        return Itx(AsyncItx(surface), _TIMEOUT).streams.get(self.selected_path)

    def reveal(self, path: str) -> None:
        """Open the way to a stream and scroll it into view, wherever the tree is displayed. It is not selected by this.

        Raises
        ------
        ItxError
            ``BAD_REQUEST``: that is not a path.
        """
        self._on_loop(self._tree.reveal, parse_stream_path(path))

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the tree as it is now into a page of its own, and give its path.

        The page loads nothing, so it can be sent and kept. What the tree knows is in it as JSON as well, in the element
        ``#snapshot``.
        """
        written = Path(path)
        written.write_text(render_page(self._tree.get_snapshot()), encoding="utf-8")
        return written

    def close(self) -> None:
        """Stop following and take the view off the page. Displayed again, it is the tree as it was last, as plain HTML.

        A tree closes by itself when the cell that made it was run again and it is not displayed anywhere any more.
        """
        if self._is_connected:
            if not self._has_front_end:
                # A runner without one stores what it was sent last; a page drops the model with all it held.
                self._send_snapshot()
            self._is_connected = False
            unfollow_cells(self)
            self._on_loop(self._end)
            # ipywidgets makes a Layout for every widget and leaves it behind.
            self.layout.close()
        super().close()
        # ipywidgets hides the method of a closed widget, which would then be displayed as its repr.
        self.__dict__.pop("_repr_mimebundle_", None)

    # -- cells, on the thread that runs them -------------------------------------------------------------------------

    def on_cell_start(self) -> None:
        """A cell begins: nothing is closed until it has ended."""
        self._on_loop(self._lifetime.note_cell_start)

    def on_cell_end(self, execution: Execution | None) -> None:
        """A cell has ended: a tree of its earlier run may close; a runner that has no browser gets the tree as of now.

        Patches are not state: such a runner (nbconvert, nbclient) would store the tree as it was first displayed.
        """
        self._on_loop(self._lifetime.note_cell_end, execution)
        if not self._has_front_end and self._tree.seq != self._sent_seq:
            self._on_loop(self._send_snapshot)

    # -- from the browser --------------------------------------------------------------------------------------------

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """On the main thread or a subshell's. What is raised here would be shown nowhere, so it is drawn instead."""
        try:
            self._take(content)
        except Exception as error:
            notice = msgspec.to_builtins(make_node_error(error))
            self._on_loop(self._tell, {"kind": "error", "error": notice})

    def _take(self, content: Any) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        match kind:
            case "hello":
                self._has_front_end = True
                self._on_loop(self._beat)
            case "resync":
                self._on_loop(self._answer_resync)
            case "views":
                told = _parse_view_count(content)
                self._on_loop(self._lifetime.take_views, told.page, told.count)
            case "expand" | "collapse" | "refresh":
                self._on_loop(getattr(self._tree, kind), parse_stream_path(content.get("path")))
            case "events":
                self._on_loop(self._requests.begin_page, parse_request(content, PageRequest))
            case "append":
                self._on_loop(self._requests.begin_append, parse_request(content, AppendRequest))
            case "look":
                looked = content.get("path")
                self._on_loop(self._tree.look, None if looked is None else parse_stream_path(looked))
            case "create":
                self._on_loop(self._requests.begin_create, parse_request(content, CreateRequest))
            case "filter":
                self.filter = _parse_text(content.get("text"))
            case "sort":
                self._on_loop(self._tree.set_sort, _parse_sort(content.get("by")))
            case "select":
                self.selected_path = parse_stream_path(content.get("path"))
            case _:
                raise ItxError(
                    f"The browser sent {content!r}, which this version does not know.",
                    code="BAD_REQUEST",
                    hint=RELOAD,
                )

    @traitlets.validate("selected_path")
    def _check_selected_path(self, proposal: Any) -> str | None:
        return None if proposal["value"] is None else parse_stream_path(proposal["value"])

    def _on_selected_path(self, change: Any) -> None:
        self._on_loop(self._tree.select, change["new"])

    def _on_filter(self, change: Any) -> None:
        self._on_loop(self._tree.set_filter, change["new"])

    # -- to the browser, on the I/O thread ---------------------------------------------------------------------------

    def _on_loop(self, call: Any, *args: Any) -> None:
        get_io_loop().call_soon_threadsafe(call, *args, context=contextvars.Context())

    def _open(self) -> None:
        self._tree.subscribe(self._send_patch)
        self._tree.open()
        self._schedule_beat()

    def _end(self) -> None:
        self._lifetime.end()
        self._requests.close()
        for pending in (self._beat_timer, self._answer_timer):
            if pending is not None:
                pending.cancel()
        self._tree.close()

    def _send_patch(self, seq: int, patch: dict[str, Any]) -> None:
        self._tell({"kind": "patch", "seq": seq, **patch})

    def _schedule_beat(self) -> None:
        self._beat_timer = get_io_loop().call_later(_HEARTBEAT, self._beat_and_go_on, context=contextvars.Context())

    def _beat_and_go_on(self) -> None:
        if self._is_connected and self.comm is not None:
            self._beat()
            self._schedule_beat()

    def _beat(self) -> None:
        snapshot_facts = {"seq": self._tree.seq, "session": self._tree.session}
        views = self._lifetime.views.count
        self._tell({"kind": "heartbeat", **snapshot_facts, "now": self._tree.now_ms(), "views": views})

    def _tell(self, message: dict[str, Any]) -> None:
        if self._is_connected and self.comm is not None:
            # A kernel that shuts down closes its sockets first; there is nobody left to tell.
            with contextlib.suppress(OSError, RuntimeError):
                self.send(message)

    def _send_snapshot(self) -> None:
        if self._is_connected and self.comm is not None:
            self._sent_seq = self._tree.seq
            with contextlib.suppress(OSError, RuntimeError):
                self.send_state("snapshot")

    def _answer_resync(self) -> None:
        """Send the whole tree: at once, or after a rest to all who have asked in the meantime."""
        if self._answer_timer is None:
            wait = self._answered_at + _ANSWER_REST - get_io_loop().time()
            self._answer_timer = get_io_loop().call_later(max(0.0, wait), self._send_answer)

    def _send_answer(self) -> None:
        self._answer_timer = None
        self._send_snapshot()
        # From its end, because the larger the tree, the longer it takes.
        self._answered_at = get_io_loop().time()


def _parse_view_count(content: Any) -> _ViewCount:
    try:
        return msgspec.convert(content, _ViewCount)
    except msgspec.ValidationError as error:
        raise ItxError(f"That is no number of views: {error}.", code="BAD_REQUEST", hint=RELOAD) from None


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ItxError(f"A search is a text, not {value!r}.", code="BAD_REQUEST", hint="Pass a str.")
    return value


def _parse_sort(value: Any) -> Any:
    if value not in SORTS:
        raise ItxError(f"There is no order {value!r}.", code="BAD_REQUEST", hint=f"One of {', '.join(SORTS)}.")
    return value


def _keep_frontend_route(widget: anywidget.AnyWidget) -> None:
    """Let the browser's clicks arrive while a cell is busy.

    ipykernel 7.4 sends a comm's incoming messages to the thread that last published on it, which for us is never the
    subshell the browser chose. NOTE: a private name of ``comm``; without it clicks wait for the cell, nothing else.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _data, default: default  # noqa: SLF001  # see the NOTE
