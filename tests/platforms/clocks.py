"""Time in the fakes: clocks that stand until a test moves them, limits that may run faster than real ones."""

import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

MOMENT = datetime(2025, 3, 8, 12, 20, tzinfo=UTC)


class Clock:
    """A CRM's own clock in whole seconds; it stands until it is moved."""

    def __init__(self, moment: datetime = MOMENT) -> None:
        self.unix = int(moment.timestamp())

    @property
    def now(self) -> datetime:
        """The moment it shows."""
        return datetime.fromtimestamp(self.unix, UTC)

    def set(self, moment: datetime | float) -> None:
        """Show another moment, earlier ones as well; a number is Unix seconds, as of `time.time()`."""
        self.unix = int(moment.timestamp() if isinstance(moment, datetime) else moment)

    def forward(self, span: timedelta | float) -> None:
        """Go on by some seconds."""
        self.unix += int(span.total_seconds() if isinstance(span, timedelta) else span)


class Stopwatch:
    """The seconds since it was made, `speed` times faster than the machine's clock."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.passed = 0.0
        self.factor = 1.0

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self.passed + (time.monotonic() - self.start) * self.factor

    @property
    def speed(self) -> float:
        """How many of its seconds pass in a second."""
        return self.factor

    @speed.setter
    def speed(self, factor: float) -> None:
        self.passed, self.start, self.factor = self.seconds, time.monotonic(), factor


class LeakyBuckets:
    """Bitrix24's limit: each source address has a bucket of `size` calls that drains by `drain` a second."""

    def __init__(self) -> None:
        self.watch = Stopwatch()
        self.size = 50.0
        self.drain = 2.0
        self.levels: dict[str, tuple[float, float]] = {}
        self.lock = threading.Lock()

    def let_in(self, sender: str) -> bool:
        """Take one call and return True, or return False when the bucket would overflow."""
        with self.lock:
            now = self.watch.seconds
            level, since = self.levels.get(sender, (0.0, now))
            level = max(0.0, level - (now - since) * self.drain)
            fits = level + 1 <= self.size
            self.levels[sender] = (level + fits, now)
            return fits


class Window:
    """amoCRM's limit: at most `size` calls in any second; refused ones count as well."""

    def __init__(self, size: int) -> None:
        self.watch = Stopwatch()
        self.size = size
        self.moments: deque[float] = deque()
        self.refused_in_a_row = 0
        self.lock = threading.Lock()

    def let_in(self) -> bool:
        """Count one call; return whether it is within the limit."""
        with self.lock:
            now = self.watch.seconds
            while self.moments and self.moments[0] <= now - 1:
                self.moments.popleft()
            self.moments.append(now)
            fits = len(self.moments) <= self.size
            self.refused_in_a_row = 0 if fits else self.refused_in_a_row + 1
            return fits
