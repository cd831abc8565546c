from __future__ import annotations

import sys
from typing import Any

import pytest

from itx_notebook.capnweb.protocol.errors import RpcProtocolError
from itx_notebook.capnweb.protocol.wire import MAX_SAFE_INTEGER, decode, encode, format_bigint, parse_bigint


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (["push", ["pipeline", 0, ["a"], [1, "x", None, True]]], b'["push",["pipeline",0,["a"],[1,"x",null,true]]]'),
        (["pipeline", 0, ("a", 1)], b'["pipeline",0,["a",1]]'),
        ({"a": [[1.5]]}, b'{"a":[[1.5]]}'),
        ("ü€😀", '"ü€😀"'.encode()),
        (-MAX_SAFE_INTEGER, b"-9007199254740991"),
    ],
)
def test_a_tree_becomes_compact_text(tree: Any, text: bytes) -> None:
    assert encode(tree) == text


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "😀"])
def test_any_text_that_javascript_has_travels(text: str) -> None:
    assert decode(encode(["push", {"a": text}])) == ["push", {"a": text}]


def test_escaped_surrogates_are_read_one_by_one_or_as_a_pair() -> None:
    assert decode(b'["\\ud800","\\ud83d\\ude00"]') == ["\ud800", "😀"]


def test_a_long_number_beside_a_lone_surrogate_is_a_double() -> None:
    assert decode(b'["\\ud800",1152921504606847000123,1.5,12]') == ["\ud800", 1152921504606847000123.0, 1.5, 12]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[",
        b"[1] [2]",
        b"[1]\n[2]",
        b"[NaN]",
        b"[Infinity]",
        b"[1e400]",
        b'["\\ud800",NaN]',
        b'["\\ud800",1e400]',
        b'["\\ud800",-Infinity]',
        b"\xff",
        b'["\xed\xa0\x80"]',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_refused(message: bytes) -> None:
    with pytest.raises(RpcProtocolError, match="bad RPC message"):
        decode(message)


@pytest.mark.parametrize(
    "value", [0, -1, 2**53, -(2**64), 10**3999, 10**4000, 10**4001 - 1, -(10**16000 + 7)], ids=int.bit_length
)
def test_big_integers_survive_their_text(value: int) -> None:
    assert parse_bigint(format_bigint(value, 16_384)) == value


def test_big_integers_of_more_digits_than_python_converts_at_once_are_right() -> None:
    text = format_bigint(3**20_000, 16_384)
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert text == str(3**20_000)
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(("value", "fits"), [(10**9 - 1, 9), (-(10**8) + 1, 9), (10**9, 10), (-(10**9), 11)])
def test_the_limit_of_digits_counts_the_sign(value: int, fits: int) -> None:
    assert len(format_bigint(value, fits)) == fits
    with pytest.raises(TypeError, match=f"more than {fits - 1} digits"):
        format_bigint(value, fits - 1)


def test_a_huge_integer_is_refused_before_it_is_written_out() -> None:
    with pytest.raises(TypeError, match="more than 16384 digits"):
        format_bigint(1 << 10_000_000, 16_384)


@pytest.mark.parametrize("text", ["", "-", "0x10", "1.5", "1e3", " 1", "+1", "--1", "1_000", "\u0661"])
def test_a_big_integer_is_decimal_digits_alone(text: str) -> None:
    with pytest.raises(RpcProtocolError, match="not a bigint"):
        parse_bigint(text)
