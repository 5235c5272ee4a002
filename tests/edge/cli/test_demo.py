"""The demo is the first thing that a newcomer runs, and a check of the whole way that anybody can repeat."""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from closedloop.edge.cli.demo import Ending, chosen_folder, exit_code
from closedloop.edge.cli.demo_rows import Cast, ConversionRow, JournalRow, Rows, Story, check_all
from closedloop.edge.cli.demo_server import Answer
from closedloop.errors import OperatorError
from fix_tools import wait_until

CAST = Cast(1)
WON = Answer(200, '{"success":true,"updated_session":2}')
ANSWERS = {
    **dict.fromkeys(("won", "again", "revised", "at once 2", "at once 3"), WON),
    "unknown": Answer(404, "Session not found"),
    "wrong key": Answer(401, '{"error":"key is not a key of any site here"}'),
}
GOALS = {
    CAST.buyer: [("payment_success", 7500, 1)],
    CAST.regular: [("payment_success", 2000, 2), ("delivery_paid", 300, 3)],
    CAST.late: [("payment_success", 990, 4)],
}
KINDS = {1: ("matched", "repeated", "revised"), 4: ("unmatched", "matched")}
WORDS = [
    "A visitor comes from Yandex Direct",
    "not built yet, so the demo inserts the row itself",
    "The visitor sends a form",
    "the deal is won",
    "The CRM sends the same webhook again",
    "The sum of the deal changes",
    "Two webhooks for one session at the same instant",
    "A webhook for a session that nobody knows",
    "Session not found",
    "matched by itself after",
    "Somebody sends a webhook with a wrong key",
    "its sum was 5000, now it is 7500 RUB",
    "All is as it should be.",
]


def document(session: str) -> dict[str, Any]:
    """Return a session's document with the goals that it should show."""
    goals = [
        {"goal": goal, "value": value, "source": "crm_offline", "deal_id": CAST.deal(deal)}
        for goal, value, deal in GOALS[session]
    ]
    return {"ids": {"session_id": session}, "target_actions": {"yandex_goals_triggered": goals}}


def conversion(number: int) -> ConversionRow:
    """Return a row of the ledger as it should be."""
    return ConversionRow(
        deal_id=CAST.deal(number),
        goal="payment_success",
        value="1",
        currency="RUB",
        state="matched",
        rule="session_id",
        revision=2 if number == 1 else 1,
    )


def good_rows() -> Rows:
    """Return the rows that the story should leave."""
    return Rows(
        sessions={session: document(session) for session in GOALS},
        conversions=[conversion(number) for number in range(1, 5)],
        journal=[
            JournalRow(deal_id=CAST.deal(number), at="10:00:00.000", kind=kind, detail={})
            for number, kinds in KINDS.items()
            for kind in kinds
        ],
        webhooks=6,
    )


def ending_of(rows: Rows, *, late_s: float | None = 1.0) -> Ending:
    """Return how a story ends that left `rows`."""
    documents = {session: {"ids": {"session_id": session}} for session in GOALS}
    checks = check_all(CAST, Story(answers=ANSWERS, documents=documents, late_s=late_s), rows)
    return Ending(ok=all(one.ok for one in checks), checks=checks, rows=rows)


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of a demo."""
    return [sys.executable, "-m", "closedloop", "demo", *map(str, arguments)]


def has_postgres(folder: Path) -> bool:
    """Return whether a process of PostgreSQL names this data folder."""
    wanted = str(folder / "postgres")
    return any(wanted in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


@pytest.fixture
def place(scratch: Path) -> Path:
    """Give a folder that is not there yet; below pytest's own, root's PostgreSQL loses its way to it."""
    return Path(tempfile.mkdtemp(prefix="demo-", dir=scratch)) / "data"


def test_demo_once_plays_every_step_and_succeeds(tmp_path: Path) -> None:
    """A newcomer reads what happens, and CI reads the exit code; the caller's settings touch nothing."""
    environment = {"DATABASE_URL": "postgresql://nobody@nowhere.example/real", "CLOSEDLOOP_CONFIG": "/none"}

    done = subprocess.run(
        command("--once"), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert [words for words in WORDS if words not in done.stdout] == []
    assert "failed" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_demo_json_is_one_document_for_programs(place: Path) -> None:
    """A script reads which check failed, and nothing else; a folder may be used again."""
    once_more = command("--once", "--json", "--data-dir", place)

    for run in (1, 2):
        done = subprocess.run(once_more, capture_output=True, text=True, check=False)
        told = json.loads(done.stdout or "{}") or pytest.fail(done.stderr)

        assert (done.returncode, told["ok"]) == (0, True), done.stdout + done.stderr
        assert [row["deal_id"] for row in told["rows"]["conversions"]] == [f"{run}00{n}" for n in range(1, 5)]
    assert not has_postgres(place)


@pytest.mark.parametrize(
    "moment", ["server.out", "postgres/PG_VERSION", "postgres/postmaster.pid", "spool.sqlite3"]
)
def test_interrupted_demo_leaves_no_process(place: Path, moment: str) -> None:
    """Whoever presses Ctrl-C at any moment of the start must not find a database running next week."""
    demo = subprocess.Popen(command("--data-dir", place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: (place / moment).exists() or demo.poll() is not None, what=moment)

    demo.send_signal(signal.SIGTERM)
    _, said = demo.communicate(timeout=60)

    assert demo.returncode == 1, said
    assert not has_postgres(place)


def test_checks_accept_what_should_be_there() -> None:
    """The other tests of the checks mean something only if the right rows pass."""
    ending = ending_of(good_rows())

    assert [one for one in ending.checks if not one.ok] == []
    assert exit_code(ending) == 0


def test_missing_goal_fails_the_demo() -> None:
    """A demo that cannot fail proves nothing: one of two goals of the same instant is lost here."""
    rows = good_rows()
    rows.sessions[CAST.regular]["target_actions"]["yandex_goals_triggered"].pop()

    ending = ending_of(rows)

    assert [one.name for one in ending.checks if not one.ok] == ["two webhooks at once leave two goals"]
    assert exit_code(ending) == 1


def test_conversion_counted_twice_fails_the_demo() -> None:
    """One deal reaches one goal once: a second row in the ledger is money that does not exist."""
    rows = msgspec.structs.replace(good_rows(), conversions=[*good_rows().conversions, conversion(5)])

    ending = ending_of(rows)

    assert [one.found[:10] for one in ending.checks if not one.ok] == ["[('1001', "]
    assert exit_code(ending) == 1


@pytest.mark.parametrize("late_s", [None, 5.5])
def test_late_match_beyond_its_promise_fails_the_demo(late_s: float | None) -> None:
    """Five seconds are promised; a match that comes later, or never, is a defect."""
    assert exit_code(ending_of(good_rows(), late_s=late_s)) == 1


def test_demo_refuses_a_folder_of_real_data(tmp_path: Path) -> None:
    """Made-up deals among real ones would be counted as money."""
    (tmp_path / "webhook.key").write_text("a real one")

    with pytest.raises(OperatorError, match="not an earlier demo's"), chosen_folder(tmp_path):
        pass
