"""`inspect bitrix24` shows an owner what of a webhook arrives, under names that other programs read."""

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.edge.cli.inspect import recorded_request
from closedloop.edge.cli.inspect_bitrix24 import KEYS, inspect_bitrix24
from closedloop.edge.cli.main import app
from closedloop.errors import OperatorError
from closedloop.settings import Bitrix24, Site
from fix_bitrix24 import APPLICATION, MEMBER, RECORDED, SESSION, TOKEN, YM_UID

KEY = "demo-url-key-11"
FILES = sorted(RECORDED.glob("*.http"))
WRONG = "demoapplicationtokenWRONG0000001"
FORGED = "forged-event-wrong-token"
OWNER = Site(
    webhook_keys=(KEY, "demo-path-key-01"),
    bitrix24=Bitrix24(application_token=(TOKEN, APPLICATION), member_id=MEMBER),
)

Told = dict[str, object]
ROBOT: Told = {"kind": "robot", "entity_type": "deal", "entity_type_id": 2, "id": "662"}
QUERY: Told = {"session_id": SESSION, "deal_id": "662"}


def event(name: str, ts: int, object_id: str = "662", **other: object) -> Told:
    """Return what is shown of an event; of a deal unless `other` says something else."""
    told: Told = {"kind": "event", "event": name, "entity_type": "deal", "entity_type_id": 2}
    return told | {"id": object_id, "ts": ts, "token": TOKEN} | other


EXPECTED: dict[str, Told] = {
    "event-deal-update": event("ONCRMDEALUPDATE", 1741436402),
    "event-deal-add-no-handler-id": event("ONCRMDEALADD", 1741000003),
    "event-lead-update": event("ONCRMLEADUPDATE", 1741000841, "365", entity_type="lead", entity_type_id=1),
    "event-dynamic-item-update": event(
        "ONCRMDYNAMICITEMUPDATE", 1741436500, "21", entity_type="dynamic", entity_type_id=1032
    ),
    "event-deal-delete": event("ONCRMDEALDELETE", 1741440000, "640"),
    "app-event-deal-update": event("ONCRMDEALUPDATE", 1741436402, token=APPLICATION),
    "app-event-deal-move-to-category": event("ONCRMDEALMOVETOCATEGORY", 1741436100, token=APPLICATION),
    "app-robot-handler": ROBOT
    | {
        "ts": 1741436402,
        "token": APPLICATION,
        "query": {"session_id": SESSION, "amount": "5000"},
        "session_id": SESSION,
    },
    FORGED: event("ONCRMDEALUPDATE", 1741436402, token=WRONG),
    "robot-deal-won": ROBOT
    | {
        "query": QUERY | {"goal_name": "payment_success", "goal_value": "5000.00", "currency": "RUB"},
        "session_id": SESSION,
        "goal_name": "payment_success",
        "goal_value": "5000",
        "currency": "RUB",
    },
    "robot-deal-money-field": ROBOT
    | {
        "query": QUERY
        | {
            "ym_uid": YM_UID,
            "goal_name": "payment_success",
            "goal_value": "5 000|RUB",
            "occurred_at": "08.03.2025 15:20:00",
        },
        "session_id": SESSION,
        "ym_uid": YM_UID,
        "goal_name": "payment_success",
        "goal_value": "5000",
        "currency": "RUB",
    },
    "robot-no-query": ROBOT | {"query": {}},
    "robot-lead-cyrillic-empty": ROBOT
    | {
        "entity_type": "lead",
        "entity_type_id": 1,
        "id": "365",
        "query": {
            "session_id": "",
            "goal_name": "Лид в работе",
            "goal_value": "",
            "phone": "+70000000001",
            "email": "",
        },
        "goal_name": "Лид в работе",
    },
    "robot-literal-placeholder": ROBOT
    | {
        "query": {
            "session_id": "{{=Document:UF_CRM_SESSION}}",
            "goal_value": "{=Document:OPPORTUNITY}",
            "deal_id": "662",
        }
    },
    "robot-smart-process": ROBOT
    | {
        "entity_type": "dynamic",
        "entity_type_id": 1032,
        "id": "21",
        "query": {"session_id": SESSION, "goal_name": "contract_signed"},
        "session_id": SESSION,
        "goal_name": "contract_signed",
    },
    "robot-ampersand-in-value": ROBOT
    | {
        "query": QUERY | {"goal_name": "Кофе ", " чай: заказ №15": "", "goal_value": "5000"},
        "session_id": SESSION,
        "goal_name": "Кофе",
        "goal_value": "5000",
    },
}


def inspect(raw: bytes, *sites: Site) -> Told:
    """Return what is shown of the bytes of a file."""
    return inspect_bitrix24(recorded_request(raw), sites=sites)


def recorded(name: str) -> bytes:
    """Return the bytes of a recorded webhook."""
    return (RECORDED / f"{name}.http").read_bytes()


def run(*arguments: str | Path) -> Result:
    """Run the command as a program of its own."""
    return CliRunner().invoke(app, ["inspect", "bitrix24", *map(str, arguments)])


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_webhook_shows_every_key(name: str) -> None:
    """Ids and money are text, types and moments numbers, what was not said is null."""
    expected = dict(EXPECTED[name])
    auth = {
        "domain": "alfa.b24.example",
        "member_id": MEMBER,
        "application_token": expected.pop("token", None),
    }

    told = inspect(recorded(name))

    absent: Told = {**dict.fromkeys(KEYS)}
    assert told == absent | {"source": "bitrix24", "accept": True, "auth": auth} | expected


def test_every_recorded_webhook_has_its_expectation() -> None:
    """A recording without one proves nothing."""
    assert {path.stem for path in FILES} == EXPECTED.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_owner_sees_only_the_forged_one_refused(path: Path) -> None:
    """With the configuration it is the server's own answer, but that a recording is never stale."""
    told = inspect(path.read_bytes(), OWNER)

    assert told["accept"] is (path.stem != FORGED)
    assert told["entity_type"] == EXPECTED[path.stem]["entity_type"]
    assert ("application_token" in str(told["reason"])) is (path.stem == FORGED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_key_of_the_site_is_not_shown(path: Path) -> None:
    """What is printed is pasted into chats."""
    result = run(path)

    assert result.exit_code == 0
    assert "demo-url-key" not in result.stdout
    assert "demo-path-key" not in result.stdout


@pytest.mark.parametrize(
    ("name", "site", "reason"),
    [
        ("event-deal-update", Site(bitrix24=Bitrix24(application_token=TOKEN)), None),
        ("event-deal-update", Site(webhook_keys=("k",), bitrix24=Bitrix24(application_token=TOKEN)), None),
        ("event-deal-update", Site(webhook_keys=("k",)), "cannot be compared"),
        ("event-deal-update", Site(webhook_keys=("demo-path-key-01",)), None),
        ("event-deal-update", Site(bitrix24=Bitrix24(application_token=("x",))), "none of the configured"),
        ("event-deal-update", Site(bitrix24=Bitrix24(member_id="x")), "another portal"),
        ("robot-no-query", Site(webhook_keys=("demo-path-key-01",)), None),
        ("robot-deal-won", Site(webhook_keys=(KEY,)), None),
        ("robot-deal-won", Site(webhook_keys=("k",)), "key is missing"),
        ("robot-deal-won", Site(webhook_keys=("k",), bitrix24=OWNER.bitrix24), "key is missing"),
    ],
)
def test_configured_secrets_decide(name: str, site: Site, reason: str | None) -> None:
    """Somebody who looks for the reason of a 403 finds it here."""
    told = inspect(recorded(name), site)

    assert told["accept"] is (reason is None)
    assert reason is None or reason in str(told["reason"])


def test_any_site_may_believe_it_and_the_keyed_one_says_why_not() -> None:
    """One configuration serves many portals; the address alone does not say whose it is."""
    other = Site(name="other", webhook_keys=("k",), bitrix24=Bitrix24(application_token=("x",)))

    assert inspect(recorded("event-deal-update"), other, OWNER)["accept"] is True
    assert "none of the configured" in str(inspect(recorded(FORGED), other, OWNER)["reason"])


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/webhooks/default/bitrix24", True),
        ("/webhooks/other/bitrix24", False),
        ("/webhooks/no/bitrix24/x", False),
    ],
)
def test_site_of_the_address_is_the_one_that_judges(path: str, *, accept: bool) -> None:
    """A key opens its own site only."""
    raw = recorded("robot-deal-won").replace(b"/functions/v1/crm-conversion-hook", path.encode())

    told = inspect(raw, OWNER, Site(name="other", webhook_keys=("k",)))

    assert told["accept"] is accept


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"POST", b"GET", "method"),
        (b"document_id", b"document", "neither an event nor a robot's call"),
        (b"DEAL_662", b"662_DEAL", "names no object"),
        (b"goal_value=5000.00", b"goal_value=five000", "goal_value is not a finite number"),
    ],
)
def test_unreadable_webhook_is_refused_with_its_key(old: bytes, new: bytes, reason: str) -> None:
    """The owner reads which part it was, and sees what was understood before it."""
    told = inspect(recorded("robot-deal-won").replace(old, new))

    assert told["accept"] is False
    assert reason in str(told["reason"])
    assert told.keys() == set(KEYS)


def test_refusal_is_the_exit_code(tmp_path: Path) -> None:
    """Scripts read the code, people the JSON."""
    config = tmp_path / "closedloop.toml"
    config.write_text('[sites.default.bitrix24]\nmember_id = "another"\n')

    result = run(RECORDED / "robot-no-query.http", "--config", config)

    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == f"auth[member_id] is that of another portal: {MEMBER!r}"


@settings(deadline=None)
@given(st.sampled_from(FILES), st.randoms(use_true_random=False), st.binary(max_size=4))
def test_broken_recording_is_shown_or_refused(path: Path, chance: random.Random, stray: bytes) -> None:
    """Wrong use ends with a sentence, not with a trace."""
    raw = path.read_bytes()
    start, end = sorted(chance.choices(range(len(raw)), k=2))

    try:
        told = inspect(raw[:start] + stray + raw[end:], OWNER)
    except OperatorError:
        return

    assert json.loads(json.dumps(told)).keys() == set(KEYS)
