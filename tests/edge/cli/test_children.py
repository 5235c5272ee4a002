"""More web processes on one port come back when they fall, and never outlive the first."""

import os
import signal
import time
from collections.abc import Sequence

import psutil
import pytest

from closedloop.edge.cli.children import Children
from closedloop.edge.cli.start import Start
from fix_server import MakeServer
from fix_tools import is_alive, wait_until

NOWHERE = "postgresql://postgres@127.0.0.1:1/none"
# As a web process it ends at the end of its input or when it is told to.
WAITS = ["sleep", "6"]


def children_of(workers: int, command: Sequence[str] = WAITS) -> Children:
    """Return the children of a start, running a program that does nothing."""
    children = Children(Start(workers=workers), NOWHERE)
    children.command = list(command)
    return children


def joined(pid: int | None) -> list[psutil.Process]:
    """Return the further web processes of a server that live."""
    found = psutil.Process(pid).children()
    return [one for one in found if is_alive(one) and "--joins" in one.cmdline()]


@pytest.mark.parametrize(
    ("start", "count"), [(Start(), 0), (Start(workers=3), 2), (Start(workers=3, web=False), 0)]
)
def test_number_of_children_is_one_less_than_workers(start: Start, count: int) -> None:
    """The first process answers, too; a worker alone has no port to share."""
    assert Children(start, NOWHERE).count == count


def test_child_is_started_again_after_it_fell(server: MakeServer) -> None:
    """Half of the capacity must not be gone until somebody looks."""
    one = server(arguments=("--workers", "2"))
    wait_until(lambda: len(joined(one.pid)) == 1, what="the second process")
    [fallen] = joined(one.pid)

    os.kill(fallen.pid, signal.SIGKILL)

    wait_until(lambda: [c.pid for c in joined(one.pid)] not in ([], [fallen.pid]), what="its successor")
    assert "web_process_fell" in one.log()


def test_children_end_when_they_are_told_to() -> None:
    """The end of the server waits for all of them."""
    begun = time.monotonic()
    with children_of(workers=4) as children:
        wait_until(lambda: len(children.running) == 3, what="three children")
        started = [psutil.Process(child.pid) for child in children.running]

    assert time.monotonic() - begun < 5
    assert not any(map(is_alive, started))


def test_stop_in_the_moment_of_a_start_ends_that_child_too() -> None:
    """A deployment that is undone at once must not hang until the service manager kills it."""
    begun = time.monotonic()

    with children_of(workers=9):
        pass

    assert time.monotonic() - begun < 5


def test_program_that_is_gone_does_not_end_the_first_process() -> None:
    """An upgrade in place may take the interpreter away for a moment."""
    with children_of(workers=2, command=["false"]) as children:
        wait_until(lambda: not children.running, what="the end of the child")

    assert children.watchers[0].is_alive() is False
