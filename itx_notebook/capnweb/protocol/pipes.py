"""Streams and pipes: what is read or written at the other end, piece by piece."""

from __future__ import annotations

from typing import Any

from itx_notebook.capnweb.protocol.hooks import Proxy

__all__ = ["Blob", "Readable", "Writable"]


class Readable:
    """A stream that is read piece by piece."""

    reference: Proxy


class Writable:
    """A stream that is written piece by piece."""

    reference: Proxy


class Blob:
    """Bytes with a MIME type, sent as a stream and delivered whole."""

    def __init__(self, data: bytes, type: str = "") -> None:  # noqa: A002  # JavaScript's name for it
        self.data = data
        self.type = type

    def stream(self) -> Any:
        """Return the bytes as a readable."""
        return Readable()
