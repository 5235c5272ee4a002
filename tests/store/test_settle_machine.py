"""Deals told in any order, repeated and revised, beside a model of what has to come of it."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]
)

from closedloop.domain.conversion import Conversion
from fix_ledger import NOW, WINDOW, Books, new_id, tell

SECOND = timedelta(seconds=1)
A, B = Decimal("100.50"), Decimal(200)


class Entry:
    """One conversion in the model of the ledger."""

    def __init__(self, first: Conversion, *, is_matched: bool) -> None:
        self.conversion_id = first.conversion_id
        self.session_id: str | None = first.told.session_id
        self.money = (first.value, first.currency)
        # A value that nobody told yet is younger than none.
        self.told_at = NOW - 1000 * WINDOW if first.told.value is None else first.received_at
        self.revision = 1
        self.is_matched = is_matched

    def hear(self, again: Conversion, *, is_known: bool) -> list[str]:
        """Take what is told again and return the entries that the journal needs for it."""
        kinds: list[str] = []
        if not self.is_matched and is_known:
            self.is_matched, self.session_id = True, again.told.session_id
            kinds.append("matched")
        elif not self.is_matched and again.received_at >= self.told_at:
            if again.told.session_id != self.session_id:
                kinds.append("unmatched")
            self.session_id = again.told.session_id
        money = (again.value, again.told.currency or self.money[1])
        if again.told.value is None:
            return self.or_repeated(kinds)
        if money == self.money:
            self.told_at = max(self.told_at, again.received_at)
        elif again.received_at < self.told_at:
            kinds.append("stale")
        else:
            self.money, self.told_at = money, again.received_at
            self.revision += 1
            kinds.append("revised")
        return self.or_repeated(kinds)

    @staticmethod
    def or_repeated(kinds: list[str]) -> list[str]:
        """Return the entries, and that it was a repetition where nothing came of it."""
        return kinds if {"matched", "revised", "stale"} & set(kinds) else [*kinds, "repeated"]


class SettleMachine(RuleBasedStateMachine):
    """Tells deals in any order and with any repetition, and keeps count of what has to come of it."""

    books: Books

    def __init__(self) -> None:
        super().__init__()
        self.site = f"site-{new_id().hex}"
        self.entries: dict[tuple[str, str], Entry] = {}
        self.events: dict[str, tuple[str, str]] = {}
        self.sessions: dict[str, str] = {}
        self.journal: list[str] = []
        self.clock = NOW

    @rule(
        deal=st.just("7"),
        goal=st.sampled_from(["sale", "lead"]),
        session=st.sampled_from("abc"),
        value=st.sampled_from([None, A, B]),
        currency=st.sampled_from([None, "RUB", "EUR"]),
        event=st.sampled_from([None, None, None, "e1", "e2", "new"]),
        late_s=st.sampled_from([0, 1, 3]),
    )
    def tell_a_deal(self, deal: str, goal: str, late_s: int, **told: Any) -> None:  # noqa: ANN401
        """Tell of a deal, perhaps again, perhaps later than it was received."""
        self.clock += SECOND
        event = new_id().hex if told["event"] == "new" else told["event"]
        fields: Mapping[str, Any] = {"session_id": told["session"], "value": told["value"]}
        conversion = tell(
            at=self.clock - 2 * late_s * SECOND,
            deal_id=deal,
            goal=goal,
            event_id=event,
            currency=told["currency"],
            **fields,
        )

        kind = self.books.tell(conversion, self.site)

        noted = self.expect((deal, goal), event, conversion)
        assert kind == next(one for one in ("new", "revised", "matched", "stale", "repeated") if one in noted)
        self.journal += [one for one in noted if one != "new"]

    def expect(self, key: tuple[str, str], event: str | None, conversion: Conversion) -> list[str]:
        """Bring the model up to date and return what is noted for it."""
        is_known = conversion.told.session_id in self.sessions
        if event is not None and event in self.events:
            return ["repeated"]
        if event is not None:
            self.events[event] = key
        if key in self.entries:
            return self.entries[key].hear(conversion, is_known=is_known)
        self.entries[key] = Entry(conversion, is_matched=is_known)
        return ["new", "matched" if is_known else "unmatched"]

    @rule(session=st.sampled_from("abc"))
    def session_arrives(self, session: str) -> None:
        """Write a session as a tracker does, after conversions that wait for it or before."""
        if session in self.sessions:
            return
        self.sessions[session] = self.books.add_session(session, site=self.site)
        waiting = [one for one in self.entries.values() if one.session_id == session and not one.is_matched]

        matched = self.books.match(self.site)

        assert sorted(matched) == sorted((one.conversion_id, "session_id") for one in waiting)
        for one in waiting:
            one.is_matched = True
        self.journal += ["matched"] * len(waiting)

    @rule(session=st.sampled_from("abc"))
    def goals_are_wiped_and_put_back(self, session: str) -> None:
        """Write a whole document anew as a script does."""
        query = "update public.user_analytics set analytics_data = '{}' where site = %s and session_id = %s"
        self.books.sql.execute(query, [self.site, session])
        lost = [one for one in self.entries.values() if one.is_matched and one.session_id == session]

        assert self.books.restore(self.site) == len(lost)

    @invariant()
    def ledger_is_the_model(self) -> None:
        """One conversion for each deal and goal, its value the one told last, each change counted."""
        query = """select deal_id, goal, conversion_id, value, currency, revision, session_row
                     from closedloop.conversion where site = %s"""
        stored = {(deal, goal): rest for deal, goal, *rest in self.books.rows(query, self.site)}
        expected = {
            key: [one.conversion_id, *one.money, one.revision, self.row_of(one)]
            for key, one in self.entries.items()
        }

        assert stored == expected
        assert len(self.books.rows("select 1 from closedloop.conversion where site = %s", self.site)) == len(
            expected
        )

    @invariant()
    def events_belong_to_their_first_conversion(self) -> None:
        """Hold an event id to its first use, whatever is told under it later."""
        query = "select event_id, conversion_id from closedloop.event where site = %s"

        stored = dict(self.books.rows(query, self.site))
        assert stored == {event: self.entries[key].conversion_id for event, key in self.events.items()}

    @invariant()
    def journal_has_an_entry_for_every_change(self) -> None:
        """Whoever asks why a number changed finds the webhook that did it."""
        assert sorted(self.books.journal(self.site)) == sorted(self.journal)

    @invariant()
    def goal_lists_are_the_image_of_the_ledger(self) -> None:
        """Each matched conversion stands in its session's list once, with its present value."""
        assert self.books.restore(self.site) == 0
        for session, row in self.sessions.items():
            listed = [
                (goal["conversion_id"], goal["value"], goal["currency"]) for goal in self.books.goals(row)
            ]
            expected = [
                (str(one.conversion_id), *one.money)
                for one in self.entries.values()
                if one.is_matched and one.session_id == session
            ]
            assert sorted(listed) == sorted(expected)

    def row_of(self, entry: Entry) -> str | None:
        """Return the row of the session that an entry is tied to."""
        return self.sessions[str(entry.session_id)] if entry.is_matched else None


def test_ledger_and_goals_agree_whatever_is_told(books: Books) -> None:
    """Nobody can list the orders in which CRMs, retries and trackers meet; a machine tries hundreds."""
    SettleMachine.books = books

    run_state_machine_as_test(
        SettleMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
