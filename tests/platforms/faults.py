"""What goes wrong between a client and a fake when a test orders it: slow, dropped and foreign answers."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Answer(NamedTuple):
    """One answer of a server."""

    status: int
    body: bytes = b""
    kind: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


# Does the work of one call.
Work: TypeAlias = Callable[[], Answer]
# Does it or not, and answers or not: None closes the connection.
Trouble: TypeAlias = Callable[[Work], Answer | None]


class Gate:
    """Holds calls until it is opened; `reached` is set once one stands before it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def open(self) -> None:
        """Let all through, now and later."""
        self.opened.set()

    def wait_reached(self, wait_s: float = 10.0) -> None:
        """Return once a call stands before it; raises AssertionError when none comes."""
        assert self.reached.wait(wait_s), "no call came to the gate"

    def hold(self) -> None:
        """Wait until it is opened."""
        self.reached.set()
        self.opened.wait()


@dataclass
class Order:
    """One trouble and the calls that it waits for."""

    part: str
    times: float
    trouble: Trouble


class Faults:
    """What a test orders: each fault meets the next calls whose address or body has `part` in it.

    `times` is how many calls it meets, None all until `clear`. Faults are used up in the order of their
    making, one for a call.
    """

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.gates: list[Gate] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()

    def order(self, trouble: Trouble, part: str = "", times: int | None = 1) -> None:
        """Add any trouble."""
        with self.lock:
            self.orders.append(Order(part, float("inf") if times is None else times, trouble))

    def slow(self, delay_s: float, part: str = "", times: int | None = 1) -> None:
        """Let the work be done at once, and the answer come late."""

        def trouble(work: Work) -> Answer:
            answer = work()
            self.closing.wait(delay_s)
            return answer

        self.order(trouble, part, times)

    def hold(self, part: str = "", times: int | None = 1, *, done: bool = True) -> Gate:
        """Keep the answer back until the gate that this returns is opened; `done` is whether the work is."""
        gate = Gate()
        self.gates.append(gate)

        def trouble(work: Work) -> Answer:
            if done:
                answer = work()
                gate.hold()
                return answer
            gate.hold()
            return work()

        self.order(trouble, part, times)
        return gate

    def drop(self, part: str = "", times: int | None = 1, *, done: bool = False) -> None:
        """Close the connection without an answer; `done` is whether the work is."""

        def trouble(work: Work) -> None:
            if done:
                work()

        self.order(trouble, part, times)

    def answer(self, status: int, part: str = "", times: int | None = 1, body: bytes | None = None) -> None:
        """Answer as the servers before the CRM do, with their page; the CRM knows nothing of the call."""
        page = f"<html><head><title>{status}</title></head><body><hr>nginx</body></html>".encode()
        wrong = Answer(status, page if body is None else body, "text/html")

        def trouble(work: Work) -> Answer:  # noqa: ARG001 - it is not done
            return wrong

        self.order(trouble, part, times)

    def clear(self) -> None:
        """Forget what was ordered and open all gates."""
        with self.lock:
            self.orders.clear()
        for gate in self.gates:
            gate.open()

    def close(self) -> None:
        """Let nothing wait any longer."""
        self.closing.set()
        self.clear()

    def meet(self, target: str, body: bytes) -> Trouble | None:
        """Return the trouble for a call, None when it has none."""
        with self.lock:
            for order in self.orders:
                if order.part in target or order.part.encode() in body:
                    order.times -= 1
                    if order.times <= 0:
                        self.orders.remove(order)
                    return order.trouble
        return None
