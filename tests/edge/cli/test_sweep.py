"""`sweep` reads now what a CRM has not told, shows how far it is, and finds what was deleted."""

import json

import pytest

from fix_deployment import Deployment, amo_won, won
from fix_flow import Tables
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.migrated


def test_every_crm_is_read_and_the_bar_is_on_standard_error(
    deployment: Deployment, bitrix24: Bitrix24, amocrm: AmoCrm, tables: Tables
) -> None:
    """What is printed can be piped."""
    deployment.configure(deployment.bitrix24, deployment.amocrm)
    won(bitrix24)
    amo_won(amocrm)

    done = deployment.run("sweep")

    assert done.returncode == 0
    assert "bitrix24: 1 " in done.stdout
    assert "amocrm: 1 " in done.stdout
    assert "bitrix24" in done.stderr
    assert len(tables.deals()) == 2


def test_program_gets_json_and_nothing_else(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """One CRM alone, if it is named."""
    deployment.configure(deployment.bitrix24, deployment.amocrm)
    won(bitrix24)

    done = deployment.run("sweep", "--crm", "bitrix24", "--json")

    assert done.stderr == ""
    (told,) = json.loads(done.stdout)
    assert (told["site"], told["crm"], told["deals"]) == ("default", "bitrix24", 1)


def test_all_finds_what_was_deleted(deployment: Deployment, bitrix24: Bitrix24, tables: Tables) -> None:
    """A deal that is gone is in no list of changes."""
    deployment.configure(deployment.bitrix24)
    deal = won(bitrix24)
    deployment.run("sweep")
    bitrix24.delete_deal(deal)

    deployment.run("sweep")
    before = tables.deals()
    deployment.run("sweep", "--all")

    assert before == [str(deal)]
    assert tables.one("select cancelled_at is not null from closedloop.conversion")


def test_since_reaches_further_back(deployment: Deployment, bitrix24: Bitrix24, tables: Tables) -> None:
    """The first sweep looks thirty days back; history may be longer."""
    deployment.configure(deployment.bitrix24)
    now = bitrix24.clock.unix
    bitrix24.clock.forward(-90 * 86400)
    won(bitrix24)
    bitrix24.clock.set(now)

    deployment.run("sweep")
    before = tables.deals()
    deployment.run("sweep", "--since", "2020-01-01")

    assert before == []
    assert len(tables.deals()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--site", "shop"], "there is no site shop"),
        (["--crm", "sap"], "sap"),
        ([], "can be asked"),
    ],
)
def test_wrong_use_is_one_sentence(deployment: Deployment, arguments: list[str], said: str) -> None:
    """Nothing is configured here."""
    done = deployment.run("sweep", *arguments)

    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_portal_that_is_away_is_said(deployment: Deployment, bitrix24: Bitrix24) -> None:
    """With the host, and without the secret in the address."""
    deployment.configure(deployment.bitrix24)
    bitrix24.go_down()

    done = deployment.run("sweep")

    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert bitrix24.code not in done.stderr
