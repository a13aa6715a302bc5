"""An embedded balancer in a program that forks, or that can start no thread."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

import l4lb
from tests.embedding.build import config
from tests.helpers.peers import Served, ask, named

pytestmark = pytest.mark.usefixtures("clean")


def test_no_thread_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lb = l4lb.Balancer(config())
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(l4lb.StartError, match="the control thread cannot start: can't start new thread"):
        lb.start()
    with pytest.raises(l4lb.ControlError, match="is closed"):
        lb.status()
    lb.close()


FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@FORKS
def test_one_that_was_made_before_a_fork_runs_in_the_child() -> None:
    lb = l4lb.Balancer(config())
    child = os.fork()
    if child == 0:
        # Whatever happens, it must not go on with the tests.
        with contextlib.suppress(l4lb.L4lbError), lb:
            os._exit(6 + len(lb.status().listeners))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@FORKS
def test_a_forked_child_has_none() -> None:
    with Served(named("one")) as backend, l4lb.Balancer(config(backend)) as lb:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                lb.status()
            except l4lb.ControlError as error:
                os.write(writer, str(error).encode())
            lb.close()
            os._exit(7)
        os.close(writer)
        with open(reader) as said:
            assert "a forked child needs one of its own" in said.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert ask(lb.address("web")) == "one"
