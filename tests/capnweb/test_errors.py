from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from itx_notebook import capnweb as rpc
from itx_notebook.capnweb.protocol.errors import as_exception, build_remote_error, get_error_name, get_error_props


@pytest.mark.parametrize(
    ("name", "cls", "native"),
    [
        ("TypeError", rpc.RemoteTypeError, TypeError),
        ("RangeError", rpc.RemoteRangeError, ValueError),
        ("SyntaxError", rpc.RemoteSyntaxError, SyntaxError),
        ("ReferenceError", rpc.RemoteReferenceError, NameError),
        ("AggregateError", rpc.RemoteAggregateError, rpc.RemoteError),
        ("Error", rpc.RemoteError, rpc.RpcError),
        ("EvalError", rpc.RemoteError, rpc.RpcError),
        ("NotFound", rpc.RemoteError, rpc.RpcError),
    ],
)
def test_an_error_of_the_peer_is_caught_by_its_own_and_by_pythons_class(
    name: str, cls: type[rpc.RemoteError], native: type[Exception]
) -> None:
    error = build_remote_error(name, "no", "at x", {"code": 7})
    assert type(error) is cls
    assert isinstance(error, native)
    assert (error.name, error.message, str(error), error.stack) == (name, "no", "no", "at x")
    assert error.props == {"code": 7}
    assert error.code == 7
    assert repr(error) == f"{cls.__name__}('no', name={name!r})"


def test_a_property_never_overrides_what_python_asks_for() -> None:
    error = build_remote_error("Error", "no", None, {"_private": 1, "with_traceback": 2, "props": 3, "args": 4})
    assert callable(error.with_traceback)
    assert error.args == ("no",)
    assert error.props["with_traceback"] == 2
    with pytest.raises(AttributeError):
        error._private  # noqa: B018
    with pytest.raises(AttributeError):
        error.nope  # noqa: B018


def test_a_cause_that_is_an_error_is_pythons_cause() -> None:
    inner = build_remote_error("TypeError", "inner", None, {})
    assert build_remote_error("Error", "outer", None, {"cause": inner}).__cause__ is inner
    plain = build_remote_error("Error", "outer", None, {"cause": "text"})
    assert plain.__cause__ is None
    assert plain.cause == "text"


def test_an_aggregate_has_its_parts() -> None:
    parts = [build_remote_error("TypeError", "a", None, {})]
    assert build_remote_error("AggregateError", "x", None, {"errors": parts}).errors == parts
    assert build_remote_error("AggregateError", "x", None, {"errors": 3}).errors == []


def test_errors_of_the_peer_can_be_copied_and_pickled() -> None:
    error = build_remote_error("NotFound", "no", "at x", {"code": 7})
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert (type(twin), twin.name, twin.message, twin.stack, twin.props) == (
            rpc.RemoteError,
            "NotFound",
            "no",
            "at x",
            {"code": 7},
        )


class NotFoundError(rpc.RpcError):
    pass


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (TypeError(), "TypeError"),
        (ValueError(), "RangeError"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), "RangeError"),
        (IndexError(), "RangeError"),
        (OverflowError(), "RangeError"),
        (SyntaxError(), "SyntaxError"),
        (NameError(), "ReferenceError"),
        (ExceptionGroup("g", [OSError()]), "AggregateError"),
        (KeyError(), "Error"),
        (OSError(), "Error"),
        (NotFoundError("x", name="NotFound"), "NotFound"),
        (rpc.RpcDisposed(), "Error"),
        (build_remote_error("URIError", "", None, {}), "URIError"),
    ],
)
def test_an_exception_is_sent_under_the_name_that_javascript_knows(error: BaseException, name: str) -> None:
    assert get_error_name(error) == name


def test_public_attributes_and_the_cause_are_sent_along() -> None:
    error = ValueError("no")
    error.code = "E1"  # type: ignore[attr-defined]  # as libraries do
    error._secret = 1  # type: ignore[attr-defined]
    error.message = "shadow"  # type: ignore[attr-defined]
    error.__cause__ = cause = KeyError("k")
    assert get_error_props(error) == {"code": "E1", "cause": cause}


def test_a_group_is_sent_with_its_parts() -> None:
    parts = [OSError("a"), TypeError("b")]
    assert get_error_props(ExceptionGroup("g", parts)) == {"errors": parts}


def test_facts_of_a_session_stay_on_this_side() -> None:
    assert get_error_props(rpc.RpcDisconnected(1001, "going")) == {}
    assert get_error_props(rpc.RpcError("no", props={"code": 3})) == {"code": 3}


@pytest.mark.parametrize(
    "value", ["text", None, {"a": 1}, 10**5000, "x" * 10_000], ids=lambda value: type(value).__name__
)
def test_what_is_thrown_and_is_no_error_is_carried_by_one(value: Any) -> None:
    thrown = as_exception(value)
    assert isinstance(thrown, rpc.RemoteThrown)
    assert thrown.value == value
    assert len(str(thrown)) < 300


def test_an_error_that_is_thrown_is_itself() -> None:
    error = rpc.RemoteError("x")
    assert as_exception(error) is error


def test_a_lost_connection_says_how() -> None:
    error = rpc.RpcDisconnected(4001, "expired")
    assert isinstance(error, ConnectionError)
    assert (error.code, error.reason) == (4001, "expired")
    assert str(error) == "Peer closed the connection (code 4001: expired)."
    assert str(rpc.RpcDisconnected()) == "Peer closed the connection (code 1006)."


def test_an_abort_carries_what_the_peer_said() -> None:
    cause = rpc.RemoteError("why")
    aborted = rpc.RpcAborted(cause)
    assert aborted.value is cause
    assert aborted.__cause__ is cause
    assert str(aborted) == "The peer ended the session: why"
    assert str(rpc.RpcAborted("text")) == "The peer ended the session: 'text'"
