"""`replay` works again on what could not be read, once its reason is mended, and says what still cannot."""

import json
from subprocess import CompletedProcess
from typing import Any

import pytest

from closedloop.stages import clock
from closedloop.stages.crms import inbox_reader
from closedloop.stages.intake import RawWebhook
from closedloop.stages.process import Process
from fix_deployment import Deployment, in_process, won
from fix_flow import Tables
from platforms.bitrix24 import Bitrix24

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

MUTE = "[sites.default.bitrix24]\nmember_id = '00112233445566778899aabbccddeeff'\n"
BROKEN = b"event=ONCRMDEALUPDATE&data[FIELDS][ID]=%FF%FE"
WHY_MUTE = (
    "closedloop cannot ask the CRM about deal 1: configure how it is read back, then run closedloop replay"
)
WHY_BROKEN = "data[FIELDS][ID] is not UTF-8 at position 0"


@pytest.fixture
def shop(deployment: Deployment, bitrix24: Bitrix24, tables: Tables) -> Deployment:
    """Give a deployment whose owner forgot `rest_url`: three webhooks could not be read."""
    deployment.configure(MUTE)
    tables.add_session("session-1")
    won(bitrix24, 5000, "session-1")
    bodies = [bitrix24.queue.event_body(event) for event in bitrix24.pending]
    take(deployment, *bodies, BROKEN)
    return deployment


def take(deployment: Deployment, *bodies: bytes) -> None:
    """Keep webhooks of Bitrix24 and work on them, as the server does."""

    async def use(process: Process) -> None:
        for body in bodies:
            raw = RawWebhook(
                source="bitrix24",
                received_at=clock.now(),
                method="POST",
                query="",
                content_type="application/x-www-form-urlencoded",
                user_agent="",
                body=body,
            )
            await process.intake.take_webhook(process.config.sites["default"], raw)
        await inbox_reader(process.crms, "default").work()

    in_process(deployment, deployment.settings(), use)


def outcomes(tables: Tables) -> list[tuple[str, str | None]]:
    """Return outcome and reason of every webhook, oldest first."""
    query = b"select outcome, reason from closedloop.webhook order by webhook_id"
    return [(row[0], row[1]) for row in tables.conn.execute(query).fetchall()]


def rows(done: CompletedProcess[str]) -> list[list[str]]:
    """Return sender and reason of every row of a table that was printed."""
    lines = [line for line in done.stdout.splitlines() if "│" in line]
    return [[cell.strip() for cell in line.split("│")[2:4]] for line in lines]


def test_webhooks_are_read_once_the_crm_can_be_asked(
    shop: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """The deal is in its session when the command returns: nothing has to be waited for."""
    shop.configure(shop.bitrix24)

    done = shop.run("replay")

    assert done.returncode == 1
    assert done.stdout.startswith("Read now: 2 of 3. Not read:\n")
    assert rows(done) == [["bitrix24", WHY_BROKEN]]
    assert [goal["value"] for goal in tables.goals("session-1")] == [5000]
    assert outcomes(tables) == [("accepted", None), ("accepted", None), ("failed", WHY_BROKEN)]
    assert bitrix24.calls


def test_nothing_is_left_when_all_is_mended(shop: Deployment, tables: Tables) -> None:
    """Exit code 0 is what a script waits for; a second run finds nothing to do."""
    tables.conn.execute("delete from closedloop.webhook where reason = %s", [WHY_BROKEN])
    shop.configure(shop.bitrix24)

    first, second = shop.run("replay"), shop.run("replay")

    assert (first.returncode, first.stdout, first.stderr) == (0, "Read now: 2 of 2.\n", "")
    assert (second.returncode, second.stdout) == (0, "Nothing to do: every webhook could be read.\n")


def test_dry_run_shows_and_changes_nothing(shop: Deployment, tables: Tables) -> None:
    """The owner looks first; the CRM is not asked either."""
    before = outcomes(tables)

    done = shop.run("replay", "--dry-run")

    assert done.returncode == 0
    assert done.stdout.startswith("3 webhooks would be worked on again:\n")
    assert rows(done) == [["bitrix24", WHY_MUTE], ["bitrix24", WHY_MUTE], ["bitrix24", WHY_BROKEN]]
    assert outcomes(tables) == before


def test_reason_that_is_not_mended_stays(shop: Deployment, tables: Tables) -> None:
    """It says what to do, and nothing is lost by trying."""
    before = outcomes(tables)

    done = shop.run("replay")

    assert done.returncode == 1
    assert done.stdout.startswith("Read now: 0 of 3. Not read:\n")
    assert outcomes(tables) == before


def test_only_the_named_sender_is_worked_on(shop: Deployment, tables: Tables) -> None:
    """Two CRMs, one mended."""
    shop.configure(shop.bitrix24)
    tables.conn.execute("update closedloop.webhook set source = 'amocrm' where reason = %s", [WHY_BROKEN])

    done = shop.run("replay", "--source", "bitrix24")

    assert (done.returncode, done.stdout) == (0, "Read now: 2 of 2.\n")
    assert outcomes(tables)[2] == ("failed", WHY_BROKEN)


def test_program_gets_every_webhook_with_its_reason(shop: Deployment, tables: Tables) -> None:
    """By its id it is found in the table, and the time is that of the shop."""
    webhook_id = tables.one("select webhook_id::text from closedloop.webhook where reason = %s", WHY_BROKEN)

    told: dict[str, Any] = json.loads(shop.run("replay", "--dry-run", "--json").stdout)

    assert (told["read"], len(told["failed"])) == (0, 3)
    received_at = told["failed"][2].pop("received_at")
    assert received_at.endswith("+03:00")
    assert told["failed"][2] == {"webhook_id": webhook_id, "source": "bitrix24", "reason": WHY_BROKEN}


def test_long_list_is_cut_for_a_person(shop: Deployment) -> None:
    """Twenty show what is wrong; the number of the others shows how much."""
    take(shop, *[BROKEN] * 20)

    done = shop.run("replay", "--dry-run")

    assert len(rows(done)) == 20
    assert done.stdout.endswith("… and 3 more; --json shows all.\n")


def test_unknown_site_is_one_sentence(shop: Deployment) -> None:
    """Its webhooks would be searched in vain."""
    done = shop.run("replay", "--site", "shop2")

    assert (done.returncode, done.stderr) == (1, "closedloop: there is no site shop2; known are: default\n")
