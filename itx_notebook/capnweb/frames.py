"""The short way for the commonest frames: whole text messages, cut and built without a parser in between.

Nine of ten frames of a session are a few dozen bytes of text in one piece. Going through an object each costs several
times what the message in it costs, in both directions. Only what is beyond doubt is taken here; everything else
(fragments, control frames, what is incomplete, too large, wrongly masked or no UTF-8) is left where it stands for a
real parser, which then says what is wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["SHORT_MAX_BYTES", "build_text_frames", "cut_text_frames", "is_utf8"]

SHORT_MAX_BYTES: Final = 125
"""What fits a frame whose length is told in one byte (RFC 6455, section 5.2)."""

_MASKED_MAX_BYTES: Final = 1024
"""What is unmasked here at the most: in Python that takes longer than a parser from some kilobytes on."""

_PLAIN_MAX_BYTES: Final = (1 << 16) - 1
"""What fits a frame whose length is told in two bytes."""

_KEY_BYTES: Final = 4
_WHOLE_TEXT: Final = 0x81
_IS_MASKED: Final = 0x80
_PLAIN_HEADS: Final = [bytes((_WHOLE_TEXT, length)) for length in range(SHORT_MAX_BYTES + 1)]
_PLAIN_HEAD: Final = bytes((_WHOLE_TEXT, 126))
_MASKED_HEADS: Final = [bytes((_WHOLE_TEXT, _IS_MASKED | length)) for length in range(SHORT_MAX_BYTES + 1)]


def is_utf8(text: bytes) -> bool:
    """Whether `text` is what a text frame may carry."""
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def cut_text_frames(data: bytes, messages: list[bytes], *, is_masked: bool, max_bytes: int) -> int:
    """Append the messages at the beginning of `data` to `messages`; return where something else begins, or the end.

    Parameters
    ----------
    data : bytes
        What was read, beginning with a frame.
    messages : list of bytes
        Where messages go.
    is_masked : bool
        Whether the peer masks, as clients must and servers must not.
    max_bytes : int
        The largest message to be taken here.
    """
    start, size = 0, len(data)
    while size - start >= 2 and data[start] == _WHOLE_TEXT:
        length = data[start + 1]
        if is_masked:
            length -= _IS_MASKED
            begin = start + 2 + _KEY_BYTES
            if length == 126:
                begin += 2
                length = int.from_bytes(data[start + 2 : start + 4])
            elif not 0 <= length < 126:
                return start
            end = begin + length
            if length > _MASKED_MAX_BYTES or end > size or length > max_bytes:
                return start
            message = _mask(data[begin:end], data[begin - _KEY_BYTES : begin])
        else:
            begin = start + 2
            if length == 126:
                begin += 2
                length = int.from_bytes(data[start + 2 : begin])
            elif length > 126:
                return start
            end = begin + length
            if end > size or length > max_bytes:
                return start
            message = data[begin:end]
        if not is_utf8(message):
            return start
        messages.append(message)
        start = end
    return start


def build_text_frames(messages: Sequence[bytes], *, is_masked: bool, build_long: Callable[[bytes], bytes]) -> bytes:
    """Return one text frame a message, all in one piece to be written at once.

    Parameters
    ----------
    messages : sequence of bytes
        UTF-8.
    is_masked : bool
        Whether to mask, as a client must; each frame with a key of its own that nobody can predict.
    build_long : callable
        Builds the frame of a longer message: of more than :data:`SHORT_MAX_BYTES` if it is masked, of 64 KiB if not.
    """
    parts: list[bytes] = []
    if not is_masked:
        for message in messages:
            length = len(message)
            if length <= SHORT_MAX_BYTES:
                parts.append(_PLAIN_HEADS[length])
                parts.append(message)
            elif length <= _PLAIN_MAX_BYTES:
                parts.append(_PLAIN_HEAD + length.to_bytes(2))
                parts.append(message)
            else:
                parts.append(build_long(message))
        return b"".join(parts)
    keys = os.urandom(_KEY_BYTES * len(messages))
    for index, message in enumerate(messages):
        length = len(message)
        if length <= SHORT_MAX_BYTES:
            key = keys[_KEY_BYTES * index : _KEY_BYTES * (index + 1)]
            parts.append(_MASKED_HEADS[length])
            parts.append(key)
            parts.append(_mask(message, key))
        else:
            parts.append(build_long(message))
    return b"".join(parts)


def _mask(data: bytes, key: bytes) -> bytes:
    """Apply `key` to a short message; doing it again undoes it."""
    length = len(data)
    mask = (key * (length // _KEY_BYTES + 1))[:length]
    # One operation on two big numbers is the quickest way that Python has of its own.
    return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(length, "little")
