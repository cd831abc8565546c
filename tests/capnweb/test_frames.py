"""The short way for frames, against the parser of the library it passes by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from itx_notebook.capnweb.frames import SHORT_MAX_BYTES, build_text_frames, cut_text_frames

LIMIT = 1 << 20

texts = st.text(max_size=200).map(str.encode) | st.integers(100, 1100).map(lambda size: b"x" * size)


def build_long(message: bytes, *, is_masked: bool) -> bytes:
    return Frame(Opcode.TEXT, message).serialize(mask=is_masked)


def parse_all(data: bytes, *, is_masked: bool) -> list[bytes]:
    reader = StreamReader()
    reader.feed_data(data)
    messages = []
    while reader.buffer:
        parsing = Frame.parse(reader.read_exact, mask=is_masked)
        with pytest.raises(StopIteration) as parsed:
            next(parsing)
        frame = parsed.value.value
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
        messages.append(bytes(frame.data))
    return messages


@pytest.mark.parametrize("is_masked", [False, True])
@given(st.lists(texts))
def test_what_is_built_the_library_parses(is_masked: bool, messages: list[bytes]) -> None:
    built = build_text_frames(
        messages, is_masked=is_masked, build_long=lambda message: build_long(message, is_masked=is_masked)
    )
    assert parse_all(built, is_masked=is_masked) == messages


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("size", [125, 126, 1024, 1025, 65_535, 65_536])
def test_lengths_are_told_as_the_library_does(size: int, is_masked: bool) -> None:
    message = b"x" * size
    built = build_text_frames(
        [message], is_masked=is_masked, build_long=lambda each: build_long(each, is_masked=is_masked)
    )
    assert parse_all(built, is_masked=is_masked) == [message]
    assert len(built) == len(build_long(message, is_masked=is_masked))


@pytest.mark.parametrize("is_masked", [False, True])
@given(st.lists(texts), st.integers(0, 1200))
def test_what_is_cut_and_what_is_left_is_all_there_was(is_masked: bool, messages: list[bytes], missing: int) -> None:
    data = b"".join(build_long(message, is_masked=is_masked) for message in messages)
    whole = data[: max(0, len(data) - missing)]
    cut: list[bytes] = []
    end = cut_text_frames(whole, cut, is_masked=is_masked, max_bytes=LIMIT)
    assert cut + parse_all(data[end:], is_masked=is_masked) == messages


@given(st.lists(st.binary(max_size=SHORT_MAX_BYTES)))
def test_a_frame_is_masked_with_a_key_of_its_own(messages: list[bytes]) -> None:
    built = build_text_frames(messages, is_masked=True, build_long=bytes)
    assert parse_all(built, is_masked=True) == messages
    keys = []
    start = 0
    for message in messages:
        keys.append(built[start + 2 : start + 6])
        start += 6 + len(message)
    # Two of a hundred keys are alike once in a million tests.
    assert len(set(keys)) >= len(keys) - 1


FIRST = b"\x81\x02{}"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x82\x01x", "binary"),
        (b"\x01\x01x", "the first of several fragments"),
        (b"\x80\x01x", "a continuation"),
        (b"\xc1\x01x", "a reserved bit"),
        (b"\x89\x00", "a ping"),
        (b"\x88\x00", "a close frame"),
        (b"\x81\x81\x00\x00\x00\x00x", "masked by a server"),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x01x", "a length in eight bytes"),
        (b"\x81\x02\xc3\x28", "not UTF-8"),
        (b"\x81\x05hell", "incomplete"),
        (b"\x81\x7e\x00", "an incomplete length"),
        (b"\x81", "half a head"),
        (b"\x81\x0bhello world", "larger than allowed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_left_for_the_parser(data: bytes, why: str) -> None:
    messages: list[bytes] = []
    assert cut_text_frames(FIRST + data, messages, is_masked=False, max_bytes=10) == len(FIRST), why
    assert messages == [b"{}"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01keyx", "a length in eight bytes"),
        (b"\x81\xfe\x00", "an incomplete length"),
        (b"\x81\xfe\x00\x7ekey", "an incomplete key"),
        (b"\x81\xfe\x00\x7e0000" + b"x" * 125, "incomplete"),
        (b"\x81\xfe\x00\x7e0000" + b"x" * 126, "larger than allowed"),
        (b"\x81\xfe\x04\x010000" + b"x" * 1025, "longer than is quick"),
        (b"\x81\x7e\x00\x7e" + b"x" * 126, "not masked"),
        (b"\x81\x840000\xf3\x18xx", "not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_of_a_client_is_left_for_the_parser(data: bytes, why: str) -> None:
    first = b"\x81\x820000KM"
    messages: list[bytes] = []
    limit = 125 if why == "larger than allowed" else LIMIT
    assert cut_text_frames(first + data, messages, is_masked=True, max_bytes=limit) == len(first), why
    assert messages == [b"{}"]


def test_a_client_that_does_not_mask_is_left_for_the_parser() -> None:
    messages: list[bytes] = []
    assert cut_text_frames(FIRST, messages, is_masked=True, max_bytes=LIMIT) == 0
    assert messages == []
