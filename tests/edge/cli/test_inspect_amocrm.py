"""`inspect amocrm` shows an owner what we would read in a webhook, and why it would be refused."""

# ruff: noqa: RUF001 - owners name their fields in Russian

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from closedloop.edge.cli.inspect import recorded_request
from closedloop.edge.cli.inspect_amocrm import inspect_amocrm
from closedloop.edge.cli.main import app
from closedloop.errors import OperatorError
from closedloop.settings import AmoCrm, Site
from fix_tools import REPOSITORY

RECORDED = REPOSITORY / "tests" / "recorded" / "amocrm"
ALFA = {"id": "30000001", "subdomain": "alfashop"}
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
KEY = "demo-path-key-02"
HEAD = b"POST /in/amo/demo-path-key-02 HTTP/1.1\r\n"

# What stands in each event besides None.
LEAD: dict[str, object] = {
    "entity": "lead",
    "id": "30100001",
    "name": "Заявка с сайта",
    "pipeline_id": "4500001",
}
BOX: dict[str, object] = {
    "entity": "unsorted",
    "id": "aa11bb22cc33dd44ee55ff6677889900aabbccddeeff00112233445566aa",
    "pipeline_id": "4500001",
    "lead_ids": ["30100007"],
    "contact_ids": ["37000007"],
}
WON = LEAD | {
    "action": "status",
    "status_id": "142",
    "old_status_id": "41000003",
    "outcome": "won",
    "price": "5000",
    "last_modified": 1741436400,
    "tags": ["сайт"],
    "custom_fields": 5,
}
OPEN: dict[str, object] = {
    "entity": "lead",
    "pipeline_id": "4500001",
    "status_id": "41000001",
    "outcome": "open",
}
EVENTS: dict[str, list[dict[str, object]]] = {
    "contact-update-phone-email": [
        {
            "entity": "contact",
            "action": "update",
            "id": "37000001",
            "name": "Тестовый Покупатель",
            "last_modified": 1741003706,
            "custom_fields": 4,
            "linked_lead_ids": ["30100001"],
        }
    ],
    "digital-pipeline-add": [OPEN | {"action": "add", "id": "30100006"}],
    "digital-pipeline-status": [
        {
            "entity": "lead",
            "action": "status",
            "id": "30100001",
            "status_id": "142",
            "old_status_id": "41000003",
            "pipeline_id": "4500001",
            "old_pipeline_id": "4500001",
            "outcome": "won",
        }
    ],
    "lead-add-tracking-fields": [
        LEAD
        | OPEN
        | {"action": "add", "price": "0", "last_modified": 1741000000}
        | {"tags": ["сайт", "shop.example"], "custom_fields": 9}
    ],
    "lead-delete": [OPEN | {"action": "delete", "id": "30100005"}],
    "lead-delete-2016": [{"entity": "lead", "action": "delete", "id": "52370001"}],
    "lead-note": [{"entity": "lead", "action": "note", "id": "30100001", "lead_ids": ["30100001"]}],
    "lead-responsible": [
        LEAD
        | {"action": "responsible", "status_id": "41000002", "outcome": "open"}
        | {"price": "4500", "last_modified": 1741436400}
    ],
    "lead-restore": [
        LEAD
        | OPEN
        | {"action": "restore", "id": "30100005", "name": "Восстановленная"}
        | {"price": "700", "last_modified": 1741436400}
    ],
    "lead-status-2016": [
        {
            "entity": "lead",
            "action": "status",
            "id": "31920001",
            "name": "Some test lead",
            "status_id": "10210001",
            "old_status_id": "10210002",
            "pipeline_id": "2116",
            "outcome": "open",
            "price": "1000",
            "last_modified": 1456820780,
            "custom_fields": 1,
        }
    ],
    "lead-status-lost": [
        LEAD
        | {"action": "status", "id": "30100002", "name": "Заявка с сайта 2", "old_status_id": "41000001"}
        | {"status_id": "143", "outcome": "lost", "price": "0"}
        | {"last_modified": 1741436400, "custom_fields": 1}
    ],
    "lead-status-two-leads": [
        LEAD
        | {"action": "status", "old_status_id": "41000003", "last_modified": 1741436400}
        | {"id": "30100003", "name": "Первая", "status_id": "142", "outcome": "won", "price": "12000"},
        LEAD
        | {"action": "status", "old_status_id": "41000003", "last_modified": 1741436400}
        | {"id": "30100004", "name": "Вторая", "status_id": "143", "outcome": "lost", "price": "0"}
        | {"pipeline_id": "4500002"},
    ],
    "lead-status-won": [WON],
    "lead-status-won-redelivery": [WON],
    "lead-update-account-last": [
        LEAD
        | {"action": "update", "status_id": "41000002", "old_status_id": "41000001", "outcome": "open"}
        | {"price": "4500", "last_modified": 1741200000, "tags": ["сайт"], "custom_fields": 3}
    ],
    "lead-update-field-shapes": [
        LEAD
        | {"action": "update", "id": "30100008", "name": "Все виды полей", "status_id": "41000002"}
        | {"outcome": "open", "price": "100.5", "last_modified": 1741436400, "custom_fields": 12}
    ],
    "salesbot-widget-request": [],
    "unsorted-accept": [BOX | {"action": "accept"}],
    "unsorted-add": [BOX | {"action": "add"}],
}
ACCOUNTS: dict[str, dict[str, str | None]] = {
    "lead-delete-2016": {"id": None, "subdomain": "oldshop"},
    "lead-status-2016": {"id": None, "subdomain": "oldshop"},
    "salesbot-widget-request": {"id": "30000002", "subdomain": "betastore"},
}
KEYS = {
    *("entity", "action", "id", "name", "status_id", "old_status_id", "pipeline_id", "old_pipeline_id"),
    *("outcome", "price", "last_modified", "custom_fields"),
    *("tags", "linked_lead_ids", "lead_ids", "contact_ids"),
}


def told(raw: bytes, *sites: Site) -> Any:  # noqa: ANN401 - JSON
    """Return what is printed of a request."""
    return json.loads(json.dumps(inspect_amocrm(recorded_request(raw), sites=sites)))


def bytes_of(name: str) -> bytes:
    """Return a recorded request."""
    return (RECORDED / f"{name}.http").read_bytes()


@pytest.mark.parametrize(("name", "events"), EVENTS.items())
def test_recorded_webhook_shows_every_event(name: str, events: list[dict[str, object]]) -> None:
    """Ids and money are texts, what was not said is null, and no key is missing."""
    shown = told(bytes_of(name))

    assert (shown["source"], shown["accept"], shown["reason"]) == ("amocrm", True, None)
    assert shown["account"] == ACCOUNTS.get(name, ALFA)
    assert [set(event) for event in shown["events"]] == [KEYS] * len(events)
    for event in shown["events"]:
        event["custom_fields"] = event["custom_fields"] and len(event["custom_fields"])
    assert [{k: v for k, v in event.items() if v is not None} for event in shown["events"]] == events


def test_every_recording_has_its_expectation() -> None:
    """A recording without one tests nothing."""
    assert sorted(EVENTS) == sorted(path.stem for path in RECORDED.glob("*.http"))


def test_custom_fields_are_shown_as_they_came() -> None:
    """The owner looks for the session's field, whose name only the account knows."""
    (event,) = told(bytes_of("lead-status-won"))["events"]

    fields = event["custom_fields"]
    assert fields[0] == {
        "id": "500101",
        "name": "Сессия сайта",
        "code": None,
        "values": [{"value": SESSION, "enum": None}],
    }
    assert (fields[1]["code"], fields[3]["values"]) == ("_YM_UID", [{"value": "Стандарт", "enum": "853001"}])
    assert fields[4]["values"] == [{"value": "1741381200", "enum": None}]


def test_empty_and_repeated_values_are_shown() -> None:
    """A field without values is empty; phones are several."""
    (lead,) = told(bytes_of("lead-add-tracking-fields"))["events"]
    (contact,) = told(bytes_of("contact-update-phone-email"))["events"]

    assert (lead["custom_fields"][1]["code"], lead["custom_fields"][1]["values"]) == ("UTM_MEDIUM", [])
    assert contact["custom_fields"][1]["values"] == [
        {"value": "+70000000001", "enum": "718321"},
        {"value": "8 (000) 000-00-02", "enum": "718323"},
    ]


def test_several_entities_stand_in_the_order_of_the_body() -> None:
    """One body may carry all that happened in a second."""
    body = (
        "unsorted[delete][0][action]=decline&unsorted[delete][0][uid]=u&unsorted[delete][0][decline_result][leads][0]=5"
        "&leads[status][4][id]=1&leads[status][2][id]=2&leads[update][0][id]=1&task[add][0][id]=3"
        "&contacts[add][0][id]=4&contacts[add][0][type]=company&talk[add][0][talk_id]=6"
    )

    shown = told(HEAD + b"\r\n" + body.encode())

    assert [(event["entity"], event["action"], event["id"]) for event in shown["events"]] == [
        ("unsorted", "decline", "u"),
        ("lead", "status", "1"),
        ("lead", "status", "2"),
        ("lead", "update", "1"),
        ("task", "add", "3"),
        ("company", "add", "4"),
        ("talk", "add", "6"),
    ]


def test_command_prints_it(tmp_path: Path) -> None:
    """Scripts read the code, people the JSON; names stay readable in it."""
    config = tmp_path / "closedloop.toml"
    config.write_text("[sites.default]\n")

    result = CliRunner().invoke(
        app, ["inspect", "amocrm", str(RECORDED / "lead-status-won.http"), "--config", str(config)]
    )

    assert (result.exit_code, json.loads(result.stdout)["accept"]) == (0, True)
    assert "Сессия сайта" in result.stdout


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("leads[status][0][id]=1&leads[status][0][price]=five", "leads[status][0][price]"),
        ("leads[status][0][name]=x", "leads[status][0][id] is missing"),
        ('{"leads": ', "breaks the JSON"),
        ("a=%ff", "a is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(body: str, reason: str) -> None:
    """The owner sees the sentence that the journal would have."""
    shown = told(HEAD + b"\r\n" + body.encode())

    assert (shown["accept"], shown["events"]) == (False, [])
    assert reason in shown["reason"]


def test_other_methods_are_refused() -> None:
    """A browser's visit to the address is no webhook."""
    shown = told(HEAD.replace(b"POST", b"GET") + b"\r\n")

    assert (shown["accept"], "GET" in shown["reason"]) == (False, True)


@pytest.mark.parametrize(
    ("target", "accept"),
    [
        (f"/in/amo/{KEY}", True),
        (f"/in/amo/{KEY}/", True),
        (f"/in/amo/x?key={KEY}", True),
        ("/in/amo/demo%2Dpath-key-02", True),
        (f"/webhooks/default/amocrm/{KEY}", True),
        (f"/webhooks/default/amocrm?key={KEY}", True),
        (f"/webhooks/other/amocrm?key={KEY}", False),
        ("/webhooks/other/amocrm?key=other-key", True),
        (f"/webhooks/none/amocrm?key={KEY}", False),
        ("/in/amo/x", False),
        ("/in/amo/x?key=wrong", False),
    ],
)
def test_configured_key_is_needed(target: str, *, accept: bool) -> None:
    """Nothing is signed: the key in the address is all that is known of a sender."""
    sites = [Site(webhook_keys=(KEY,)), Site(name="other", webhook_keys=("other-key",)), Site(name="none")]

    shown = told(f"POST {target} HTTP/1.1\r\n\r\nleads[delete][0][id]=1".encode(), *sites)

    assert (shown["accept"], len(shown["events"])) == (accept, int(accept))
    assert accept or shown["reason"].startswith("key ")
    assert KEY not in json.dumps(shown)


@pytest.mark.parametrize(
    ("amocrm", "accept"),
    [
        (None, True),
        (AmoCrm(), True),
        (AmoCrm(account_id="30000001"), True),
        (AmoCrm(account_id="30000002"), False),
        (AmoCrm(base_url="https://alfashop.amocrm.example"), True),
        (AmoCrm(base_url="https://betastore.kommo.example"), False),
        (AmoCrm(base_url="https://renamed.amocrm.example", account_id="30000001"), True),
    ],
)
@pytest.mark.parametrize("keys", [(), (KEY,)])
@pytest.mark.parametrize("name", ["default", "shop"])
def test_configured_account_is_the_only_one(
    amocrm: AmoCrm | None, keys: tuple[str, ...], name: str, *, accept: bool
) -> None:
    """An agency pastes the wrong shop's address; the reason shows whose webhook came."""
    shown = told(bytes_of("lead-status-won"), Site(name=name, webhook_keys=keys, amocrm=amocrm))

    assert (shown["accept"], shown["account"]) == (accept, ALFA)
    assert accept or "alfashop" in shown["reason"]


@given(st.sampled_from(sorted(EVENTS)), st.integers(0, 5000), st.binary(max_size=6), st.integers(0, 30))
def test_damaged_request_is_shown_or_refused(name: str, start: int, piece: bytes, lost: int) -> None:
    """Wrong use ends with a sentence, not with a trace."""
    raw = bytes_of(name)
    try:
        shown = told(raw[:start] + piece + raw[start + lost :])
    except OperatorError:
        return

    assert shown["accept"] is (shown["reason"] is None)
