"""`replay` works again on what could not be read, once its owner has mended the reason."""

import json
import shutil

import pytest

from fix_deployment import Deployment, won
from fix_flow import Tables
from fix_server import KEY, MakeServer
from fix_tools import wait_until
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.migrated

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FAILED = "select count(*) from closedloop.webhook where outcome = 'failed'"
EVENT = "event=ONCRMDEALUPDATE&data[FIELDS][ID]={}"


@pytest.fixture
def failed(server: MakeServer, deployment: Deployment, bitrix24: Bitrix24, tables: Tables) -> Deployment:
    """Give a deployment that was not told how to read its portal, and has heard of a deal."""
    one = server()
    body = EVENT.format(won(bitrix24))
    assert (
        one.post(body, path="/webhooks/default/bitrix24", query=f"key={KEY}", headers=FORM, key=None).status
        == 200
    )
    wait_until(lambda: tables.one(FAILED) == 1, what="the webhook has failed")
    one.terminate()
    # What is kept can be opened with the key of its data folder only.
    shutil.copytree(one.data_dir, deployment.folder / "data")
    return deployment


def test_dry_run_shows_the_reason_and_changes_nothing(failed: Deployment, tables: Tables) -> None:
    """Before anything is done again, it is looked at."""
    failed.configure(failed.bitrix24)

    done = failed.run("replay", "--dry-run")

    assert done.returncode == 0
    assert "closedloop cannot ask the CRM about deal 1" in " ".join(done.stdout.split())
    assert tables.one(FAILED) == 1


def test_mended_webhook_is_read(failed: Deployment, tables: Tables) -> None:
    """And its deal is asked for."""
    failed.configure(failed.bitrix24)

    done = failed.run("replay")

    assert done.returncode == 0
    assert tables.one(FAILED) == 0
    assert tables.deals() == ["1"]


def test_what_is_still_wrong_is_listed(failed: Deployment) -> None:
    """Exit code 1, for a scheduler."""
    done = failed.run("replay", "--json")

    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["failed"]
    assert row["source"] == "bitrix24"


def test_other_sender_is_left_alone(failed: Deployment, tables: Tables) -> None:
    """One mapping was mended, not all."""
    failed.configure(failed.bitrix24)

    assert failed.run("replay", "--source", "amocrm").returncode == 0
    assert tables.one(FAILED) == 1
