"""What the demo left in the database, and whether that is exactly what it should have left."""

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg import Connection
from psycopg.rows import class_row, dict_row

from closedloop.edge.cli.demo_server import Answer

LATE_S = 5.0
WEBHOOKS = 6  # authentic requests of one run


class Cast(msgspec.Struct, frozen=True):
    """The ids of one run; those of another run in the same folder differ."""

    run: int

    @property
    def buyer(self) -> str:
        """The session of the visitor from Yandex Direct."""
        return f"demo-{self.run}-direct"

    @property
    def regular(self) -> str:
        """The session for which two webhooks come at once."""
        return f"demo-{self.run}-regular"

    @property
    def late(self) -> str:
        """The session that comes after its deal."""
        return f"demo-{self.run}-late"

    def deal(self, number: int) -> str:
        """Return the id of the deal: 1 is the buyer's, 2 and 3 the regular's, 4 the late one's."""
        return str(self.run * 1000 + number)


class ConversionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion of the ledger as the final table shows it; `value` is exact, as text."""

    deal_id: str
    goal: str
    value: str
    currency: str
    state: str
    rule: str | None
    revision: int


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a deal's journal."""

    deal_id: str
    at: str
    kind: str
    detail: dict[str, Any]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one run: `sessions` is each session's document by its session_id."""

    sessions: dict[str, dict[str, Any]]
    conversions: Sequence[ConversionRow]
    journal: Sequence[JournalRow]
    webhooks: int  # kept in the inbox


class Story(msgspec.Struct, kw_only=True):
    """What happened while the story was played: the answers, and how long the late match took."""

    answers: dict[str, Answer] = msgspec.field(default_factory=dict)
    documents: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)  # as they were inserted
    late_s: float | None = None
    webhooks_before: int = 0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that must hold, and what was found instead or as proof."""

    name: str
    ok: bool
    found: str


_SESSIONS = """
    select session_id, analytics_data
      from public.user_analytics
     where site = 'default' and session_id = any(%(sessions)s)
     order by session_id
"""

_CONVERSIONS = """
    select deal_id, goal, value::text, currency, state, rule, revision
      from closedloop.conversion
     where site = 'default' and deal_id = any(%(deals)s)
     order by deal_id
"""

_JOURNAL = """
    select c.deal_id, to_char(j.at at time zone 'UTC', 'HH24:MI:SS.MS') as at, j.kind, j.detail
      from closedloop.journal j
      join closedloop.conversion c on c.site = j.site and c.conversion_id = j.conversion_id
     where j.site = 'default' and c.deal_id = any(%(deals)s)
     order by c.deal_id, j.entry
"""

_WEBHOOKS = """
    select count(*) as webhooks
      from closedloop.webhook
     where site = 'default'
"""


def read_rows(conn: Connection[Any], cast: Cast) -> Rows:
    """Return everything that one run left in the database; `webhooks` counts those of earlier runs too."""
    deals = {"deals": [cast.deal(number) for number in range(1, 6)]}
    with conn.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_SESSIONS, {"sessions": [cast.buyer, cast.regular, cast.late]})
        sessions = {row["session_id"]: row["analytics_data"] for row in cursor}
    with conn.cursor(row_factory=class_row(ConversionRow)) as cursor:
        conversions = cursor.execute(_CONVERSIONS, deals).fetchall()
    with conn.cursor(row_factory=class_row(JournalRow)) as cursor:
        journal = cursor.execute(_JOURNAL, deals).fetchall()
    return Rows(sessions=sessions, conversions=conversions, journal=journal, webhooks=count_webhooks(conn))


def count_webhooks(conn: Connection[Any]) -> int:
    """Return how many webhooks the inbox keeps."""
    found = conn.execute(_WEBHOOKS).fetchone()
    return int(found[0]) if found else 0


def goals_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the goal list of a session's document, empty where there is none."""
    goals: list[dict[str, Any]] = document.get("target_actions", {}).get("yandex_goals_triggered", [])
    return goals


def check_all(cast: Cast, story: Story, rows: Rows) -> list[Check]:
    """Return every check of the story, in its order; each says what was found."""
    return [
        *check_answers(story),
        *check_goals(cast, story, rows),
        *check_ledger(cast, story, rows),
    ]


def check_answers(story: Story) -> list[Check]:
    """Return whether every request was answered as the contract says."""
    told = story.answers
    first, late, wrong = told["won"], told["unknown"], told["wrong key"]
    return [
        check("a won deal is answered 200 with the session's row", _is_success(first), first),
        check("the same webhook again gets the same answer", told["again"] == first, told["again"]),
        check("a changed sum gets the same answer", told["revised"] == first, told["revised"]),
        check(
            "both webhooks of the same instant are answered 200",
            _is_success(told["at once 2"]) and told["at once 2"] == told["at once 3"],
            told["at once 3"],
        ),
        check("an unknown session is answered 404", late == Answer(404, "Session not found"), late),
        check("a wrong key is answered 401", wrong.status == 401, wrong.status),  # noqa: PLR2004 - HTTP
    ]


def check_goals(cast: Cast, story: Story, rows: Rows) -> list[Check]:
    """Return whether each session shows the goals that it should, and nothing else changed in it."""
    wanted = {
        cast.buyer: [("payment_success", 7500, "crm_offline", cast.deal(1))],
        cast.regular: [
            ("delivery_paid", 300, "crm_offline", cast.deal(3)),
            ("payment_success", 2000, "crm_offline", cast.deal(2)),
        ],
        cast.late: [("payment_success", 990, "crm_offline", cast.deal(4))],
    }
    shown = {session: _goals_shown(rows.sessions.get(session, {})) for session in wanted}
    names = {
        cast.buyer: "a repeated and revised deal is one goal with its last sum",
        cast.regular: "two webhooks at once leave two goals",
        cast.late: "the late session shows its goal",
    }
    others = {session: _without_goals(document) for session, document in rows.sessions.items()}
    return [
        *(check(name, shown[session] == wanted[session], shown[session]) for session, name in names.items()),
        check(
            "nothing else changed in the sessions",
            others == story.documents,
            f"{len(others)} documents, {sum(map(len, others.values()))} keys",
        ),
    ]


def check_ledger(cast: Cast, story: Story, rows: Rows) -> list[Check]:
    """Return whether ledger, journal and inbox hold what happened, once."""
    ledger = [(row.deal_id, row.state, row.rule, row.revision) for row in rows.conversions]
    revisions = {1: 2, 2: 1, 3: 1, 4: 1}
    wanted = [(cast.deal(number), "matched", "session_id", revisions[number]) for number in revisions]
    kinds = {
        number: [row.kind for row in rows.journal if row.deal_id == cast.deal(number)] for number in (1, 4)
    }
    kept = rows.webhooks - story.webhooks_before
    late = story.late_s
    return [
        check("the ledger has each deal once, and the changed one as revision 2", ledger == wanted, ledger),
        check("the journal tells the first deal", kinds[1] == ["matched", "repeated", "revised"], kinds[1]),
        check("the journal tells the late deal", kinds[4] == ["unmatched", "matched"], kinds[4]),
        check(
            "the late session is matched by itself within 5 s",
            late is not None and late < LATE_S,
            "never" if late is None else f"{late:.1f} s",
        ),
        check(
            "the inbox keeps the authentic webhooks and not the stranger's",
            kept == WEBHOOKS,
            f"{kept} webhooks",
        ),
    ]


def check(name: str, ok: bool, found: object) -> Check:  # noqa: FBT001 - the result itself
    """Return one check; `found` is shown as a person reads it."""
    if isinstance(found, Answer):
        found = f"{found.status} {found.body}"
    return Check(name=name, ok=ok, found=str(found))


def _is_success(answer: Answer) -> bool:
    return answer.status == 200 and '"success":true' in answer.body  # noqa: PLR2004 - HTTP


def _goals_shown(document: dict[str, Any]) -> list[tuple[object, ...]]:
    keys = ("goal", "value", "source", "deal_id")
    return sorted(tuple(goal.get(key) for key in keys) for goal in goals_of(document))


def _without_goals(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "target_actions"}
