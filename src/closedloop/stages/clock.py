"""The clock, the chance and the ids made from both: the only calls to any of them."""

import random
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Return seconds on a clock that never goes back; only differences mean anything."""
    return time.monotonic()


def jitter(seconds: float) -> float:
    """Return `seconds` shortened or lengthened by up to a fifth, so that many do not act as one."""
    return seconds * random.uniform(0.8, 1.2)


def pause(seconds: float) -> None:
    """Wait, a fifth shorter or longer; for commands, never for the server's loop."""
    time.sleep(jitter(seconds))


class IdMaker:
    """Makes ids that sort by the time of their making (UUID version 7, RFC 9562), strictly in one process."""

    def __init__(self) -> None:
        self.last_tick = 0

    def __call__(self) -> UUID:
        """Return a new id: 48 bits of milliseconds, 12 bits below a millisecond, 62 bits of chance."""
        nanoseconds = time.time_ns()
        tick = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
        self.last_tick = tick = max(tick, self.last_tick + 1)
        chance = random.getrandbits(62)
        high, low = tick >> 12, tick & 0xFFF
        return UUID(int=high << 80 | 0x7 << 76 | low << 64 | 0b10 << 62 | chance)


new_id = IdMaker()
