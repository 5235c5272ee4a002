"""`doctor` says of each CRM whether it can be read, and what its owner has to do."""

import json
from collections.abc import Callable

import pytest

from fix_deployment import Deployment
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.migrated


def told(deployment: Deployment, crm: str) -> dict[str, tuple[str, str]]:
    """Return state and sentence of each check of a CRM, by its name."""
    checks = json.loads(deployment.run("doctor", "--json").stdout)
    return {one["check"]: (one["state"], one["seen"]) for one in checks if one["check"].startswith(crm)}


def test_both_crms_in_order(deployment: Deployment) -> None:
    """Connection, rights, stages, and the field of the session."""
    deployment.configure(deployment.bitrix24, deployment.amocrm)

    for crm in ("bitrix24", "amocrm"):
        checks = told(deployment, crm)
        assert len(checks) >= 3
        assert {state for state, _ in checks.values()} == {"ok"}


def test_nothing_is_said_where_none_is_configured(deployment: Deployment) -> None:
    """A shop that uses the hook has no CRM to look at."""
    deployment.configure("")

    assert told(deployment, "bitrix24") == {}


def wrong_code(portal: Bitrix24, _account: AmoCrm) -> None:
    """Let the incoming webhook be another one."""
    portal.code = "another"


def renamed(portal: Bitrix24, _account: AmoCrm) -> None:
    """Let the portal have another address."""
    portal.renamed_to = "https://beta.b24.example"


def no_rights(portal: Bitrix24, _account: AmoCrm) -> None:
    """Let the webhook have no right to the CRM."""
    portal.scope.clear()


def plan_ended(portal: Bitrix24, _account: AmoCrm) -> None:
    """Let the plan of the portal end."""
    portal.refuse("*", 403, "ACCESS_DENIED", "REST API is available only on commercial plans")


def away(portal: Bitrix24, _account: AmoCrm) -> None:
    """Let the portal not be there."""
    portal.go_down()


@pytest.mark.parametrize("trouble", [wrong_code, renamed, no_rights, plan_ended, away])
def test_portal_in_trouble_fails_with_a_sentence(
    deployment: Deployment,
    bitrix24: Bitrix24,
    amocrm: AmoCrm,
    trouble: Callable[[Bitrix24, AmoCrm], None],
) -> None:
    """Exit code 1, and never the secret in the address."""
    deployment.configure(deployment.bitrix24)
    trouble(bitrix24, amocrm)

    done = deployment.run("doctor")

    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("✗") and "bitrix24" in line]
    assert failed
    assert bitrix24.code not in done.stdout + done.stderr or trouble is wrong_code


def test_account_whose_token_was_revoked_is_told(deployment: Deployment, amocrm: AmoCrm) -> None:
    """Only its owner can make another."""
    deployment.configure(deployment.amocrm)
    amocrm.tokens.revoke()

    checks = told(deployment, "amocrm")

    assert [state for state, _ in checks.values()] == ["fail"]
    assert "token" in str(checks)
