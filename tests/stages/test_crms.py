"""Which loops run depends on what is configured, and a server without a CRM carries nothing of it."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from closedloop.domain.goals import Goal
from closedloop.errors import OperatorError
from closedloop.settings import AmoCrm, Bitrix24, Site, WriteBack
from closedloop.stages.crms import NEEDED, address_of, needs_steps, trust_of
from fix_deals import InWorld, World

pytestmark = [pytest.mark.migrated, pytest.mark.usefixtures("quiet")]

PORTAL = Bitrix24(rest_url="https://alfa.b24.example/rest/1/code/")
ACCOUNT = AmoCrm(base_url="https://alfashop.amocrm.example", access_token="t")  # noqa: S106 - invented


async def names(world: World) -> list[str]:
    """Return the names of the loops, which are not run."""
    loops = list(world.process.crms.loops())
    for _, loop in loops:
        loop.close()
    return [name for name, _ in loops]


def test_webhooks_are_read_without_any_configuration(in_world: InWorld) -> None:
    """AmoCRM's tell enough by themselves."""
    assert in_world(names) == ["inbox-default"]


def test_crm_that_only_sends_is_not_asked(in_world: InWorld) -> None:
    """A token says whom to believe, and nothing of where to ask."""
    told = Bitrix24(application_token="t", member_id="m")  # noqa: S106 - invented
    named = AmoCrm(base_url=ACCOUNT.base_url, account_id="30000001")

    assert in_world(names, bitrix24=told, amocrm=named) == ["inbox-default"]


def test_crm_that_can_be_asked_is_read_and_swept(in_world: InWorld) -> None:
    """Each by itself: one that is away holds up no other."""
    assert in_world(names, bitrix24=PORTAL, amocrm=ACCOUNT) == [
        "inbox-default",
        "readback-default-bitrix24",
        "sweep-default-bitrix24",
        "readback-default-amocrm",
        "sweep-default-amocrm",
    ]


@pytest.mark.parametrize("field", ["source", "campaign", "match"])
def test_writing_back_is_off_until_a_field_is_named(in_world: InWorld, field: str) -> None:
    """Nobody's deals are changed by a program that was to read them."""
    writing = msgspec.structs.replace(PORTAL, write_back=WriteBack(**{field: "UF_CRM_1"}))

    assert "writeback-default-bitrix24" not in in_world(names, bitrix24=PORTAL)
    assert in_world(names, bitrix24=writing)[-1] == "writeback-default-bitrix24"


def test_named_crm_or_all_that_can_be_asked_are_meant(in_world: InWorld) -> None:
    """A command without a name means every one of them."""

    async def asked(world: World) -> list[list[str]]:
        crms = world.process.crms
        return [[one.name for one in crms.asked("default", crm)] for crm in (None, "amocrm")]

    assert in_world(asked, bitrix24=PORTAL, amocrm=ACCOUNT) == [["bitrix24", "amocrm"], ["amocrm"]]
    assert in_world(asked, amocrm=ACCOUNT) == [["amocrm"], ["amocrm"]]


@pytest.mark.parametrize(
    ("site", "crm", "sentence"),
    [
        ("shop2", None, "there is no site shop2; known are: default"),
        ("default", "hubspot", "there is no CRM hubspot; known are: bitrix24, amocrm"),
        ("default", "amocrm", f"amocrm of site default cannot be asked: set {NEEDED['amocrm']}"),
    ],
)
def test_crm_that_cannot_be_asked_says_what_to_set(
    in_world: InWorld, site: str, crm: str | None, sentence: str
) -> None:
    """The sentence is read at a terminal and in the answer of the API."""

    async def asked(world: World) -> str:
        with pytest.raises(OperatorError) as caught:
            world.process.crms.asked(site, crm)
        return str(caught.value)

    assert in_world(asked, bitrix24=PORTAL) == sentence


def test_site_without_a_crm_names_every_one_that_could_be(in_world: InWorld) -> None:
    """Whoever begins does not know yet what it is called here."""

    async def asked(world: World) -> str:
        with pytest.raises(OperatorError) as caught:
            world.process.crms.asked("default")
        return str(caught.value)

    told = in_world(asked)
    assert [name for name in NEEDED.values() if name not in told] == []


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


@pytest.mark.parametrize(
    ("on", "is_needed"),
    [("won", False), ("lost", False), ("created", False), ("qualified", True), ("stage:NEW", True)],
)
def test_stage_history_is_read_only_where_a_goal_needs_it(on: str, is_needed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It costs calls, of which a portal has two a second."""
    assert needs_steps(Site(goals=(Goal(on="won", goal="sale"), Goal(on=on, goal="g")))) is is_needed


def test_webhook_is_believed_by_what_its_owner_configured() -> None:
    """Tokens and portal for one CRM, the account for the other."""
    site = Site(
        bitrix24=Bitrix24(application_token="t", member_id="m"),  # noqa: S106
        amocrm=AmoCrm(base_url="https://alfashop.amocrm.example", account_id="30000001"),
    )

    portal, account = (trust_of(site, crm, has_key=True) for crm in ("bitrix24", "amocrm"))

    assert (portal.tokens, portal.accounts) == (("t",), ("m",))
    assert set(account.accounts) == {"30000001", "alfashop"}
    assert (portal.has_key, account.has_key) == (True, True)


def test_site_without_settings_believes_its_key_alone() -> None:
    """Nothing that anybody can read in a webhook opens."""
    for crm in ("bitrix24", "amocrm"):
        trust = trust_of(Site(), crm, has_key=False)
        assert (trust.has_key, tuple(trust.tokens), tuple(trust.accounts)) == (False, (), ())


SERVER = """
import sys
from pathlib import Path
from closedloop.edge.http.app import make_app
from closedloop.settings import Bitrix24, Config, Site
from closedloop.stages.process import Process

site = Site(bitrix24=Bitrix24(rest_url=sys.argv[2] or None, member_id="m"))
config = Config(
    sites={"default": site}, data_dir=Path(sys.argv[1]), database_url="x", deployment_key=b"k" * 32
)
make_app(Process(config, "dbname=x"))
print("aiohttp" in sys.modules)
"""


@pytest.mark.parametrize(
    ("address", "is_loaded"), [("", "False"), ("https://a.b24.example/rest/1/x/", "True")]
)
def test_server_without_a_crm_loads_no_http_client(tmp_path: Path, address: str, is_loaded: str) -> None:
    """It takes ten of the megabytes that an idle server may have."""
    command = [sys.executable, "-c", SERVER, str(tmp_path), address]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == is_loaded
