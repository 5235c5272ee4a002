"""`reconcile` says of a month whether a deal was lost, to a person, a script and a scheduler."""

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from subprocess import CompletedProcess
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from closedloop.stages import clock
from closedloop.stages.crms import NEEDED
from fix_deployment import Deployment, amo_won, won
from fix_flow import Tables
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.migrated

MOSCOW = ZoneInfo("Europe/Moscow")
TODAY = clock.now().astimezone(MOSCOW).date()


def reconcile(deployment: Deployment, *arguments: str, days: int = 3) -> CompletedProcess[str]:
    """Compare the last days."""
    first = TODAY - timedelta(days=days)
    return deployment.run("reconcile", "--from", str(first), "--to", str(TODAY), *arguments)


def compared(deployment: Deployment, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and what a program reads."""
    done = reconcile(deployment, "--json", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def cells(printed: str) -> list[list[str]]:
    """Return the rows of a table that was printed."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]


def test_gap_is_shown_and_is_closed_by_the_sweep(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """The three commands of the manual, in their order; the exit code is what a scheduler looks at."""
    deployment.configure(deployment.bitrix24)
    won(bitrix24, 5000, "session-1")

    before = reconcile(deployment)
    assert deployment.run("sweep").returncode == 0
    after = reconcile(deployment)

    assert (before.returncode, after.returncode) == (1, 0)
    assert before.stdout.startswith("bitrix24: 1 reached there, 0 of them here; 1 differs.\n")
    assert after.stdout.startswith("bitrix24: 1 reached there, 1 of them here; nothing is missing.\n")
    why = "it was never told, or is cancelled here: run closedloop sweep"
    assert cells(before.stdout) == [["1", "payment_success", "won there, not here", "5000 RUB", "-", why]]


def test_bar_is_on_standard_error_and_ends_whole(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """What is printed goes into a file or a mail, and there a bar has no business."""
    deployment.configure(deployment.bitrix24)
    for _ in range(12):
        won(bitrix24)

    done = reconcile(deployment)

    assert re.search(r"^bitrix24 ━+ 12/12 ", done.stderr)
    assert "━ 12" not in done.stdout
    assert [row[0] for row in cells(done.stdout)] == [str(number) for number in range(1, 13)]


def test_program_gets_every_difference_and_nothing_else(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """It is what a dashboard of their own or a bot of the shop's chat is fed with."""
    deployment.configure(deployment.bitrix24)
    for worth in (5000, 700):
        won(bitrix24, worth, "session-1")
    deployment.run("sweep")
    bitrix24.change_deal(1, opportunity=Decimal(4500))
    bitrix24.delete_deal(2)
    won(bitrix24, 30)

    code, told = compared(deployment)

    assert (code, told["bitrix24"]["in_crm"], told["bitrix24"]["here"]) == (1, 2, 1)
    assert set(told["bitrix24"]["differences"][0]) == {"kind", "deal_id", "goal", "in_crm", "here", "why"}
    assert [(one["kind"], one["deal_id"]) for one in told["bitrix24"]["differences"]] == [
        ("value", "1"),
        ("missing", "3"),
        ("extra", "2"),
    ]


def test_deals_without_a_session_are_listed_and_are_no_failure(
    deployment: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """The owner sees what the tracker or the form has missed; the ledger itself is whole."""
    deployment.configure(deployment.bitrix24)
    tables.add_session("session-1")
    for session in ("session-1", "session-2", ""):
        won(bitrix24, 5000, session)
    deployment.run("sweep")

    done = reconcile(deployment)

    assert done.returncode == 0
    assert [(row[0], row[2]) for row in cells(done.stdout)] == [("2", "no session"), ("3", "no session")]
    assert "no session session-2 is known: the tracker was blocked" in done.stdout
    assert "the deal carries nothing that leads to a visitor" in done.stdout


def test_days_are_those_of_the_site(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """The deal of half past eleven belongs to the shop's day; that of half past twelve is of the next."""
    deployment.configure(deployment.bitrix24)
    day = TODAY - timedelta(days=2)
    midnight = datetime(day.year, day.month, day.day, tzinfo=MOSCOW) + timedelta(days=1)
    for minutes in (-30, 30):
        bitrix24.clock.set(midnight + timedelta(minutes=minutes))
        won(bitrix24, minutes + 100)

    done = deployment.run("reconcile", "--from", str(day), "--to", str(day), "--json")

    told = json.loads(done.stdout)["bitrix24"]
    assert [one["in_crm"] for one in told["differences"]] == ["70 RUB"]


def test_both_crms_are_compared_each_with_its_own(
    deployment: Deployment, bitrix24: Bitrix24, amocrm: AmoCrm
) -> None:
    """A shop that moves has both; the deals of the one are not missed in the other."""
    deployment.configure(deployment.bitrix24, deployment.amocrm)
    won(bitrix24, 5000)
    amo_won(amocrm, 700)
    deployment.run("sweep", "--crm", "bitrix24")

    code, told = compared(deployment)
    only_code, only = compared(deployment, "--crm", "bitrix24")

    assert (code, only_code) == (1, 0)
    assert {name: (one["in_crm"], one["here"]) for name, one in told.items()} == {
        "bitrix24": (1, 1),
        "amocrm": (1, 0),
    }
    assert set(only) == {"bitrix24"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "30.11.2026"], "from is no day such as 2026-11-01: '30.11.2026'"),
        (["--to", "2020-01-01"], f"to is before from, {TODAY - timedelta(days=3)}: '2020-01-01'"),
        (
            ["--crm", "amocrm"],
            f"amocrm of site default cannot be asked: set {NEEDED['amocrm']}",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    deployment: Deployment, arguments: list[str], sentence: str
) -> None:
    """Whoever mistypes reads what was wrong; a trace would say that the program is broken."""
    deployment.configure(deployment.bitrix24)

    done = reconcile(deployment, *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"closedloop: {sentence}\n")


def test_without_a_crm_it_says_what_to_configure(deployment: Deployment) -> None:
    """The command is found in the help before the section in the manual."""
    deployment.configure("")

    done = reconcile(deployment)

    assert done.returncode == 1
    assert done.stderr.startswith(
        "closedloop: no CRM of site default can be asked: set bitrix24.rest_url, or "
    )


def test_crm_that_is_away_is_a_failure_and_said_soon(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """A scheduler must not take silence for completeness, nor a person wait for a minute."""
    deployment.configure(deployment.bitrix24)
    bitrix24.go_down()
    started = clock.elapsed()

    done = reconcile(deployment)

    assert clock.elapsed() - started < 15
    assert (done.returncode, done.stdout) == (1, "")
    assert "closedloop: bitrix24 did not take the call: 127.0.0.1 cannot be reached" in done.stderr


def test_crm_that_refuses_says_what_its_owner_has_to_do(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """The code of a webhook is changed by whoever tidies the portal up; it is shown to nobody."""
    deployment.configure(deployment.bitrix24)
    bitrix24.code = "another"

    done = reconcile(deployment)

    assert (done.returncode, done.stdout) == (1, "")
    assert "the code in rest_url was deleted, edited or has expired" in done.stderr
    assert "demowebhookcode0" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_strangers_have_typed_is_shown_as_it_is(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """A deal's field is anybody's to fill; a terminal and a table obey brackets and escapes."""
    deployment.configure(deployment.bitrix24)
    won(bitrix24, 5, "7[bold]-77")
    deployment.run("sweep")

    done = reconcile(deployment)

    assert done.returncode == 0
    assert "no session 7[bold]-77 is known" in done.stdout
