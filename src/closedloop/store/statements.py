"""All statements that depend on the shape of public.user_analytics, written once the shape is known."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from closedloop.errors import DatabaseAwayError
from closedloop.store.conversions import Ledger
from closedloop.store.deliveries import Deliveries
from closedloop.store.hits import Hits
from closedloop.store.images import Images
from closedloop.store.latest import Arrivals
from closedloop.store.leads import Leads
from closedloop.store.origins import Origins
from closedloop.store.restate import Restater
from closedloop.store.sessions import SessionTable
from closedloop.store.settle import Settler
from closedloop.store.waiting import Waiting


class Statements:
    """The statements for one shape of the table."""

    def __init__(
        self,
        table: SessionTable,
        windows: Mapping[str, timedelta],
        destinations: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.table = table
        self.ledger = Ledger(table, destinations)
        self.deliveries = Deliveries(table)
        self.images = Images(table)
        self.waiting = Waiting(table)
        self.hits = Hits(table)
        self.leads = Leads(table)
        self.arrivals = Arrivals(table)
        self.origins = Origins(table)
        self.settler = Settler(self.ledger, self.waiting, windows)
        self.restater = Restater(self.settler)


class Shape:
    """Holds the statements of this process; empty until the database was seen for the first time."""

    def __init__(
        self, windows: Mapping[str, timedelta], destinations: Mapping[str, Sequence[str]] = {}
    ) -> None:
        self.windows = windows
        self.destinations = destinations
        self.known: Statements | None = None

    def learn(self, table: SessionTable) -> None:
        """Write the statements for this shape, if it is not the one that is known."""
        if self.known is None or self.known.table != table:
            self.known = Statements(table, self.windows, self.destinations)

    def current(self) -> Statements:
        """Return the statements. Raises DatabaseAwayError while the database was never seen."""
        if self.known is None:
            raise DatabaseAwayError("the database has not been reached since the start")
        return self.known
