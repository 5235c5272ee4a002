"""Doctor says of each CRM what is right, what is wrong, and who has to mend it where."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from closedloop.edge.cli.doctor_check import Check
from closedloop.edge.cli.doctor_crm import look_at_all
from closedloop.settings import Config, Site
from closedloop.stages import clock
from fix_deployment import AMO_FIELD, FIELD, Deployment, site_of
from fix_flow import Tables
from platforms.amocrm import AmoCrm
from platforms.bitrix24 import Bitrix24

pytestmark = pytest.mark.usefixtures("quiet")

GOOD_KEY = "Zx8Rk2Vq9Lm4Tn7Bw3Hy6Jd"
NOWHERE = "postgresql://postgres@127.0.0.1:1/none"

Seen = Callable[[Site], dict[str, Check]]


@pytest.fixture
def seen(tmp_path: Path, known_crms: None) -> Seen:  # noqa: ARG001 - it changes the fakes
    """Give what is seen of a site's CRMs, by the name of the check, with no database anywhere."""

    def look(site: Site) -> dict[str, Check]:
        config = Config(
            sites={"default": site}, data_dir=tmp_path, database_url=NOWHERE, deployment_key=b"k" * 32
        )
        return {one.check: one for one in asyncio.run(look_at_all(config, NOWHERE))}

    return look


def states(checks: dict[str, Check], crm: str) -> dict[str, str]:
    """Return the states of one CRM's checks by their short names."""
    return {name.partition(": ")[2]: one.state for name, one in checks.items() if name.startswith(crm)}


def test_healthy_crms_have_nothing_to_mend(seen: Seen, bitrix24: Bitrix24, amocrm: AmoCrm) -> None:
    """What was found is shown: the owner sees whether it is the right account and the right field."""
    checks = seen(site_of(bitrix24, amocrm))

    all_right = {"connection": "ok", "rights": "ok", "stages": "ok", "session field": "ok"}
    assert states(checks, "bitrix24 of default") == states(checks, "amocrm of default") == all_right
    assert {one.mend for one in checks.values()} == {""}
    assert "alfashop answers, in RUB" in checks["amocrm of default: connection"].seen
    assert FIELD in checks["bitrix24 of default: session field"].seen


@pytest.mark.parametrize(
    ("field", "state", "sentence"),
    [
        (FIELD, "ok", f"The field {FIELD} is there."),
        ("session_id", "ok", "The field session_id is there."),
        ("UF_CRM_99", "fail", f"did you mean {FIELD}?"),
    ],
)
def test_field_of_the_session_is_looked_for_in_bitrix24(
    seen: Seen, bitrix24: Bitrix24, field: str, state: str, sentence: str
) -> None:
    """A field that was deleted, or mistyped, makes every deal lose its session."""
    checks = seen(site_of(bitrix24, bitrix24={"session_field": field}))

    found = checks["bitrix24 of default: session field"]
    assert found.state == state
    assert sentence in found.seen


@pytest.mark.parametrize(
    ("field", "state", "sentence"),
    [
        (str(AMO_FIELD), "ok", f"The field {AMO_FIELD} is there."),
        ("Session ID", "ok", "The field Session ID is there."),
        ("700099", "fail", "did you mean session_id?"),
    ],
)
def test_field_of_the_session_is_looked_for_in_amocrm(
    seen: Seen, amocrm: AmoCrm, field: str, state: str, sentence: str
) -> None:
    """By its number, its code or its name, as the owner wrote it."""
    checks = seen(site_of(account=amocrm, amocrm={"session_field": field}))

    found = checks["amocrm of default: session field"]
    assert found.state == state
    assert sentence in found.seen


def test_crm_without_a_field_of_the_session_is_a_warning(
    seen: Seen, bitrix24: Bitrix24, amocrm: AmoCrm
) -> None:
    """Comments, phones and e-mails may do; nobody has promised a field."""
    bitrix24.crm.user_fields[2].clear()
    amocrm.crm.lead_fields.clear()

    checks = seen(site_of(bitrix24, amocrm))

    for crm in ("bitrix24", "amocrm"):
        found = checks[f"{crm} of default: session field"]
        assert found.state == "warn"
        assert "make a text field of this name" in found.seen


def test_right_that_is_lacking_is_named(seen: Seen, bitrix24: Bitrix24) -> None:
    """A webhook is made with a tick for each permission, and one is forgotten."""
    bitrix24.scope.remove("crm")
    bitrix24.scope.add("tasks")

    checks = seen(site_of(bitrix24))

    assert states(checks, "bitrix24") == {
        "connection": "ok",
        "rights": "fail",
        "stages": "fail",
        "session field": "warn",
    }
    assert "lacks the permission CRM: tick it" in checks["bitrix24 of default: rights"].seen
    assert "fields of deals cannot be read" in checks["bitrix24 of default: session field"].seen


def test_deals_that_the_user_may_not_see_are_told(seen: Seen, bitrix24: Bitrix24) -> None:
    """Whoever made the webhook was no administrator, or has become none."""
    bitrix24.refuse("crm.item.list", 400, "ACCESS_DENIED", "Access denied")

    found = seen(site_of(bitrix24))["bitrix24 of default: rights"]

    assert found.state == "fail"
    assert "does not show deals, leads, contacts" in found.seen


def test_stages_without_a_won_one_are_told(seen: Seen, bitrix24: Bitrix24, amocrm: AmoCrm) -> None:
    """Nothing would ever be a payment."""
    amocrm.crm.pipelines.clear()
    bitrix24.refuse("crm.status.list", 400, "ACCESS_DENIED", "Access denied")

    checks = seen(site_of(bitrix24, amocrm))

    assert checks["bitrix24 of default: stages"].state == "fail"
    assert checks["amocrm of default: stages"].state == "fail"


def wrong_code(portal: Bitrix24) -> None:
    """Let the webhook be made anew."""
    portal.code = "another"


def renamed(portal: Bitrix24) -> None:
    """Let the portal move to another address."""
    portal.renamed_to = "https://beta.b24.example"


def plan_ended(portal: Bitrix24) -> None:
    """Let the subscription end."""
    portal.refuse("*", 403, "ACCESS_DENIED", "REST API is available only on commercial plans")


@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (wrong_code, "the code in rest_url was deleted, edited or has expired; make a new incoming webhook"),
        (renamed, "the portal has moved to another address; put its new address into rest_url"),
        (plan_ended, "the portal's plan has no REST API, or its subscription has ended; renew it"),
    ],
)
def test_portal_that_does_not_serve_us_says_what_to_do(
    seen: Seen, bitrix24: Bitrix24, happens: Callable[[Bitrix24], None], sentence: str
) -> None:
    """One line in place of four, and the secret of the address in none."""
    site = site_of(bitrix24)
    happens(bitrix24)

    (found,) = seen(site).values()

    assert (found.check, found.state) == ("bitrix24 of default", "fail")
    assert sentence in found.seen
    assert found.mend
    assert "demowebhookcode0" not in found.seen


def token_revoked(account: AmoCrm) -> None:
    """Let the owner remove the integration."""
    account.tokens.revoke()


def unpaid(account: AmoCrm) -> None:
    """Let the account run out of money."""
    account.is_unpaid = True


def blocked(account: AmoCrm) -> None:
    """Let the account close its API."""
    account.is_blocked = True


@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (token_revoked, "amoCRM does not take the access token: make a new one"),
        (unpaid, "the account is not paid for; pay for it in amoCRM"),
        (blocked, "the API is closed to us"),
    ],
)
def test_account_that_does_not_serve_us_says_what_to_do(
    seen: Seen, amocrm: AmoCrm, happens: Callable[[AmoCrm], None], sentence: str
) -> None:
    """The same of amoCRM."""
    site = site_of(account=amocrm)
    happens(amocrm)

    (found,) = seen(site).values()

    assert (found.check, found.state) == ("amocrm of default", "fail")
    assert sentence in found.seen


def test_wrong_address_of_an_account_is_told(seen: Seen, amocrm: AmoCrm) -> None:
    """People copy the address of the page that they look at."""
    site = site_of(account=amocrm, amocrm={"base_url": f"{amocrm.url}/leads/pipeline"})

    (found,) = seen(site).values()

    assert found.state == "fail"
    assert "check base_url, https://SUBDOMAIN.amocrm.ru" in found.seen


def test_private_address_is_refused_until_it_is_meant(seen: Seen, bitrix24: Bitrix24) -> None:
    """A typing mistake must not make the server ask its neighbours."""
    (found,) = seen(site_of(bitrix24, bitrix24={"private_address": False})).values()

    assert found.state == "fail"
    assert "set private_address = true" in found.seen


def test_trouble_with_one_crm_hides_nothing_of_the_other(
    seen: Seen, bitrix24: Bitrix24, amocrm: AmoCrm
) -> None:
    """Each has its own lines."""
    site = site_of(bitrix24, amocrm)
    bitrix24.code = "another"

    checks = seen(site)

    assert states(checks, "bitrix24") == {"": "fail"}
    assert set(states(checks, "amocrm").values()) == {"ok"}


def test_crms_that_are_away_are_said_together_and_soon(
    seen: Seen, bitrix24: Bitrix24, amocrm: AmoCrm
) -> None:
    """The same cable leads to both, and somebody waits at the terminal."""
    site = site_of(bitrix24, amocrm)
    bitrix24.go_down()
    amocrm.go_down()
    started = clock.elapsed()

    checks = seen(site)

    assert clock.elapsed() - started < 6
    assert set(checks) == {"bitrix24 of default", "amocrm of default"}
    assert all("127.0.0.1 cannot be reached" in one.seen for one in checks.values())
    assert {one.mend for one in checks.values()} == {"check the address and the network, and run this again"}


def test_whole_command_shows_crms_and_changes_nothing(
    deployment: Deployment, bitrix24: Bitrix24, tables: Tables
) -> None:
    """It is run before anything else, on a database that was not prepared yet and stays so."""
    deployment.environment["CLOSEDLOOP_WEBHOOK_KEY"] = GOOD_KEY
    deployment.configure(deployment.bitrix24)

    done = deployment.run("doctor", "--json")

    told: dict[str, dict[str, Any]] = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.stderr == ""
    assert told["bitrix24 of default: connection"]["state"] == "ok"
    assert told["migrations"]["state"] == "fail"
    assert tables.one("select to_regnamespace('closedloop')::text") is None
    assert bitrix24.calls


def test_deployment_without_a_crm_has_no_line_about_one(deployment: Deployment) -> None:
    """A warning about what nobody wants is noise."""
    deployment.configure("[sites.default.bitrix24]\nmember_id = 'x'\n")

    assert "bitrix24" not in deployment.run("doctor").stdout
