"""Which loops run depends on what is configured, and a server without a CRM carries nothing of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from closedloop.settings import AmoCrm, Bitrix24, Site, WriteBack
from closedloop.stages.crms import address_of, needs_steps, trust_of
from fix_deals import InWorld, World

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

PORTAL = Bitrix24(rest_url="https://alfa.b24.example/rest/1/code/")


async def names(world: World) -> list[str]:
    """Return the names of the loops, which are not run."""
    loops = list(world.process.crms.loops())
    for _, loop in loops:
        loop.close()
    return [name for name, _ in loops]


def test_webhooks_are_read_without_any_configuration(in_world: InWorld) -> None:
    """AmoCRM's tell enough by themselves."""
    assert in_world(names) == ["inbox-default"]


def test_crm_that_can_be_asked_is_read_and_swept(in_world: InWorld) -> None:
    """Writing back is off until a field is named."""
    found = in_world(names, bitrix24=PORTAL)
    writing = Bitrix24(rest_url=PORTAL.rest_url, write_back=WriteBack(source="UF_CRM_1"))

    assert found == ["inbox-default", "readback-default-bitrix24", "sweep-default-bitrix24"]
    assert in_world(names, bitrix24=writing)[-1] == "writeback-default-bitrix24"


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (Bitrix24(), None),
        (PORTAL, PORTAL.rest_url),
        (AmoCrm(base_url="https://a.amocrm.example"), None),
        (AmoCrm(base_url="https://a.amocrm.example", access_token="t"), "https://a.amocrm.example"),  # noqa: S106
        (AmoCrm(access_token="t"), None),  # noqa: S106
    ],
)
def test_crm_is_asked_only_with_address_and_authorization(
    settings: Bitrix24 | AmoCrm, address: str | None
) -> None:
    """Half a configuration would fail at every deal."""
    assert address_of(settings) == address


def test_stage_history_is_read_only_where_a_goal_needs_it() -> None:
    """It costs calls."""
    assert not needs_steps(Site())


def test_webhook_is_believed_by_what_its_owner_configured() -> None:
    """Tokens and portal for one CRM, the account for the other."""
    site = Site(
        bitrix24=Bitrix24(application_token="t", member_id="m"),  # noqa: S106
        amocrm=AmoCrm(base_url="https://alfashop.amocrm.example", account_id="30000001"),
    )

    portal, account = (trust_of(site, crm, has_key=True) for crm in ("bitrix24", "amocrm"))

    assert (portal.tokens, portal.accounts) == (("t",), ("m",))
    assert set(account.accounts) == {"30000001", "alfashop"}


def test_server_without_a_crm_loads_no_http_client(tmp_path: Path) -> None:
    """It takes ten of the megabytes that an idle server may have."""
    program = (
        "import sys; from pathlib import Path; from closedloop.settings import Config, Site;"
        " from closedloop.stages.process import Process;"
        " Process(Config(sites={'default': Site()}, data_dir=Path(sys.argv[1]), database_url='x',"
        " deployment_key=b'k' * 32), 'dbname=x'); print('aiohttp' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"
