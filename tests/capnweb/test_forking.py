"""A forked child lets go of its parent's sockets."""

from __future__ import annotations

import os
import socket

import pytest

from itx_notebook.capnweb.forking import disown_socket, own_socket
from tests.support import OtherProcess

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

_FORKING = """
import os, signal, socket, sys
from itx_notebook.capnweb.forking import own_socket, disown_socket

near, far = socket.socketpair()
own_socket(near)
other, rest = socket.socketpair()
disown_socket(own_socket(other))
child = os.fork()
if child == 0:
    signal.alarm(30)
    near.close()  # what the garbage collector would do: it must not close somebody else's number
    sys.stdin.read()
    os._exit(0)
near.close()
far.settimeout(10)
print("heard" if far.recv(1) == b"" else "nothing", flush=True)
rest.setblocking(False)
other.close()
try:
    rest.recv(1)
    print("the child let go of what it might keep", flush=True)
except BlockingIOError:
    print("kept", flush=True)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""


def test_the_end_of_a_parents_socket_is_heard_though_a_child_lives() -> None:
    other = OtherProcess(_FORKING)
    assert other.hear() == "heard"
    assert other.hear() == "kept"
    other.tell()
    assert other.end() == 0


def test_a_socket_is_forgotten_as_often_as_one_likes() -> None:
    near, far = socket.socketpair()
    with near, far:
        number = own_socket(near)
        disown_socket(number)
        disown_socket(number)
        assert number == near.fileno()
