"""What a webhook of amoCRM says is read in every shape that senders of eight years have given it."""

# ruff: noqa: RUF001 - owners name their fields in Russian

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote_plus

import pytest

from closedloop.domain.deal import Deal
from closedloop.errors import CallerError, UntrustedError
from closedloop.parse.base import CrmRequest, Notice, Trust
from closedloop.parse.crm.amocrm import (
    MAX_BYTES,
    AmoAccount,
    AmoCrmWebhooks,
    read_account,
    read_events,
)

FORM = "application/x-www-form-urlencoded"
NOW = datetime(2025, 3, 8, 13, tzinfo=UTC)
SESSION = "7f3a9c21-d4b8-4e0f-9a61-2c5d8e7b0f13"
CLIENT = "1741000000123456789"


def webhook(body: bytes | str, label: str = FORM) -> CrmRequest:
    """Return a webhook with this body."""
    told = body.encode() if isinstance(body, str) else body
    return CrmRequest(content_type=label, body=told, received_at=NOW)


def notices(body: bytes | str) -> Sequence[Notice]:
    """Return what a body says of deals."""
    return AmoCrmWebhooks().read(webhook(body)).notices


def lead(*told: str, action: str = "status", index: int = 0) -> str:
    """Return a form about one lead: `[id]=1`, `[custom_fields][0][id]=5`."""
    parts = (part.partition("=") for part in told)
    return "&".join(f"leads[{action}][{index}]{name}={quote_plus(value)}" for name, _, value in parts)


def field(value: str, *, name: str = "x", code: str | None = None) -> str:
    """Return a form about a lead with one custom field."""
    named = [f"[custom_fields][0][name]={name}", f"[custom_fields][0][values][0][value]={value}"]
    coded = [] if code is None else [f"[custom_fields][0][code]={code}"]
    return lead("[id]=1", "[status_id]=142", *named, *coded)


def deal_of(body: bytes | str) -> Deal:
    """Return the only deal of a body."""
    (notice,) = notices(body)
    assert notice.deal is not None
    return notice.deal


def test_id_of_a_field_outweighs_a_name() -> None:
    """Owners may call a field as they like, also by another one's id."""
    names = ("[custom_fields][0][name]=7", "[custom_fields][0][values][0][value]=named")
    ids = ("[custom_fields][4][id]=7", "[custom_fields][4][values][0][value]=numbered")

    for order in ((*names, *ids), (*ids, *names)):
        assert deal_of(lead("[id]=1", "[status_id]=5", *order)).fields == {"7": "numbered"}


@pytest.mark.parametrize(
    ("told", "value"),
    [
        (["[price]=100", "[price_with_minor_units]=100.5"], "100.5"),
        (["[price_with_minor_units]=100.50", "[price]=100"], "100.5"),
        (["[price_with_minor_units]=", "[price]=100"], "100"),
        (["[price]=1.100"], "1.1"),
        (["[price]=5 000,00"], "5000"),
        (["[price]= 5000\n"], "5000"),
        (["[price]=123456789012345.123456"], "123456789012345.123456"),
        (["[price]="], None),
        ([], None),
        (["[price]=0"], "0"),
    ],
)
def test_value_is_exact_or_not_told(told: list[str], value: str | None) -> None:
    """No sum is not a sum of nothing; and `price` is cut to whole units."""
    deal = deal_of(lead("[id]=1", "[status_id]=142", *told))

    assert deal.value == (None if value is None else Decimal(value))


@pytest.mark.parametrize("price", ["five", "1e", "NaN", "٣", "1e99"])
@pytest.mark.parametrize("name", ["price", "price_with_minor_units"])
def test_bad_price_is_refused_by_its_own_key(name: str, price: str) -> None:
    """The sender looks for the field in their own request, so it is named as they sent it."""
    with pytest.raises(CallerError) as caught:
        notices(lead("[id]=1", "[status_id]=142", f"[{name}]={price}", index=7))

    assert caught.value.key == f"leads[status][7][{name}]"


@pytest.mark.parametrize("told", [["[id]=a-5"], ["[id]=", "[name]=x"], ["[name]=x"], [f"[id]={'1' * 21}"]])
@pytest.mark.parametrize("action", ["status", "delete"])
def test_lead_without_its_number_is_refused(told: list[str], action: str) -> None:
    """A sale that belongs to no deal must be seen by somebody."""
    with pytest.raises(CallerError) as caught:
        notices(lead(*told, action=action))

    assert caught.value.key == f"leads[{action}][0][id]"


@pytest.mark.parametrize("action", ["add", "status", "update", "restore", "responsible", "call_in"])
def test_every_change_shows_the_deal(action: str) -> None:
    """An account may subscribe to any of them; the last is one of the Digital Pipeline."""
    assert deal_of(lead("[id]=1", "[status_id]=143", action=action)).outcome == "lost"


def test_lead_without_a_status_is_only_named() -> None:
    """An open deal must not be made of a won one."""
    assert notices(lead("[id]=1", "[name]=x", action="update")) == (Notice(deal_id="1", kind="changed"),)


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        (["[last_modified]=1741436400"], datetime(2025, 3, 8, 12, 20, tzinfo=UTC)),
        (["[updated_at]=1741436400"], datetime(2025, 3, 8, 12, 20, tzinfo=UTC)),
        (["[last_modified]=0", "[updated_at]=1741436400"], datetime(2025, 3, 8, 12, 20, tzinfo=UTC)),
        (["[last_modified]=2025-03-08 12:20:00"], NOW),
        (["[last_modified]=99999999999999"], NOW),
        ([], NOW),
    ],
)
def test_moment_of_change_is_told_or_the_arrival(told: list[str], moment: datetime) -> None:
    """The Digital Pipeline tells none, and a sale is not lost for an unreadable one."""
    deal = deal_of(lead("[id]=1", "[status_id]=142", *told))

    assert (deal.changed_at, deal.closed_at) == (moment, moment)


def test_open_lead_has_no_moment_of_closing() -> None:
    """Reopened deals lose theirs."""
    deal = deal_of(lead("[id]=1", "[status_id]=5", "[old_status_id]=142", "[date_create]=1741436400"))

    assert (deal.closed_at, deal.passed) == (None, ("5",))
    assert deal.created_at == datetime(2025, 3, 8, 12, 20, tzinfo=UTC)


def test_latest_telling_counts_in_the_place_of_the_first() -> None:
    """One body may tell a lead as a change of stage and as an update, newer before older."""
    body = "&".join(
        [
            lead("[id]=1", "[status_id]=142", "[last_modified]=1741436400"),
            lead("[id]=2", "[status_id]=5", index=1),
            lead("[id]=1", "[status_id]=6", "[last_modified]=1741436399", action="update"),
            lead(
                "[id]=1", "[status_id]=142", "[last_modified]=1741436400", "[price]=7", action="responsible"
            ),
            "contacts[update][0][id]=9&contacts[update][0][linked_leads_id][1][ID]=1",
        ]
    )

    assert [(told.deal_id, told.deal and told.deal.value) for told in notices(body)] == [
        ("1", Decimal(7)),
        ("2", None),
    ]


def test_deleted_lead_is_deleted_whatever_else_is_told() -> None:
    """A deletion carries no moment; it is the last that can happen."""
    body = (
        lead("[id]=1", action="delete") + "&" + lead("[id]=1", "[status_id]=5", "[last_modified]=1741436400")
    )

    assert notices(body) == (Notice(deal_id="1", kind="deleted"),)


@pytest.mark.parametrize(
    ("body", "deal_ids"),
    [
        (
            "contacts[add][0][id]=9&contacts[add][0][linked_leads_id][5][ID]=5&contacts[add][0][type]=contact",
            ["5"],
        ),
        (
            "contacts[update][3][linked_leads_id][5][ID]=5&contacts[update][3][linked_leads_id][a][ID]=x",
            ["5"],
        ),
        ("contacts[update][0][linked_leads_id][]=5&contacts[update][0][linked_leads_id][]=6", ["5", "6"]),
        ("contacts[update][0][linked_leads_id][5][ID]=5&contacts[update][0][type]=company", []),
        ("contacts[delete][0][id]=9&contacts[delete][0][linked_leads_id][5][ID]=5", []),
        ("companies[update][0][id]=9&companies[update][0][linked_leads_id][5][ID]=5", []),
        ("unsorted[delete][0][action]=accept&unsorted[delete][0][accept_result][leads][0]=5", ["5"]),
        ("unsorted[delete][0][action]=decline&unsorted[delete][0][decline_result][leads][0]=5", []),
        ("unsorted[update][0][lead_id]=5", []),
        ("task[add][0][element_type]=2&task[add][0][element_id]=5&task[add][0][id]=7", []),
    ],
)
def test_leads_are_named_by_contacts_and_accepted_requests(body: str, deal_ids: list[str]) -> None:
    """The phone of a contact may be what leads back to the visitor."""
    assert notices(body) == tuple(Notice(deal_id=number, kind="changed") for number in deal_ids)


@pytest.mark.parametrize(
    ("body", "action"),
    [
        ('{"leads":{"status":[{"id":30100001,"status_id":142,"pipeline_id":4500001}]}}', "status"),
        ('{"leads":{"add":{"7":{"id":"30100001","status_id":"142","price":null}}}}', "add"),
    ],
)
@pytest.mark.parametrize("label", [FORM, "application/json"])
def test_digital_pipeline_may_send_json(body: str, action: str, label: str) -> None:
    """Labels are often wrong, and numbers of JSON are texts here."""
    (notice,) = AmoCrmWebhooks().read(webhook(body, label)).notices

    assert (notice.deal_id, notice.deal and notice.deal.outcome) == ("30100001", "won")
    assert read_events(webhook(body))[0].action == action


@pytest.mark.parametrize(
    ("name", "code", "value", "finding"),
    [
        ("Номер сессии", None, SESSION, ("session_id", SESSION)),
        ("x", "SESSION_ID", f" {SESSION}\n", ("session_id", SESSION)),
        ("ta_session_id", None, "m5xk-2001", ("session_id", "m5xk-2001")),
        ("Сессия сайта", None, "{{session_id}}", None),
        ("Сессия", None, "не было", None),
        ("Дата сессии", None, "2026-11-24", None),
        ("Client ID", None, CLIENT, ("ym_uid", CLIENT)),
        ("Яндекс.Метрика ClientID", None, CLIENT, ("ym_uid", CLIENT)),
        ("x", "_YM_UID", "A-10452", None),
        ("x", "_YM_UID", "10452", None),
        ("x", "GCLIENTID", CLIENT, None),
        ("x", "YCLID", "1234567890123456789", ("yclid", "1234567890123456789")),
        ("x", "RB_CLICKID", "abc-123", ("rb_clickid", "abc-123")),
        ("x", "FBCLID", "два слова", None),
        ("Переход", None, "https://s.example/?a=1&amp;GCLID=E%2DA~2&amp;b=2#f", ("gclid", "E-A~2")),
        ("Примечание", None, "код ta_0123456789AB", ("ta_code", "ta_0123456789ab")),
        ("ROISTAT", None, "139919", None),
    ],
)
def test_identifiers_are_found_by_name_and_only_if_plausible(
    name: str, code: str | None, value: str, finding: tuple[str, str] | None
) -> None:
    """A code tells the purpose of a field, not its content: a shop's order number has stood in `_YM_UID`."""
    found = deal_of(field(value, name=name, code=code)).findings

    assert [(told.kind, told.value) for told in found] == ([] if finding is None else [finding])


def test_oddities_do_not_stop_a_webhook() -> None:
    """Gaps, unclosed brackets, bare blanks and letters, a scalar beside a container: all seen."""
    body = (
        "leads%5Bstatus%5D%5B0%5D%5B&leads[status][5][&leads[status][3][id]=7&leads[status][3][name]=А и Б"
        "&contacts[note][0][note][type]=3&contacts[note][0][note][type][message_uuid]=x"
        "&leads[status][3][status_id]=142&leads[status][3][custom_fields][9][name]=empty"
        "&leads[status][3][custom_fields][&leads[status]=x&=&leads"
    )

    deal = deal_of(body)

    assert (deal.deal_id, deal.title, deal.stage) == ("7", "А и Б", "142")


def test_more_than_a_thousand_parameters_are_read() -> None:
    """The session stands last in the largest cards."""
    names = [
        f"[custom_fields][{number}][{part}]=v{number}"
        for number in range(2000)
        for part in ("name", "values][0")
    ]
    last = ["[custom_fields][2000][code]=SESSION_ID", f"[custom_fields][2000][values][0][value]={SESSION}"]

    deal = deal_of(lead("[id]=1", "[status_id]=142", *names, *last))

    assert len(deal.fields) == 2001
    assert deal.findings[0].value == SESSION


def test_nul_is_not_kept() -> None:
    """PostgreSQL cannot hold it."""
    deal = deal_of(field("a\0b") + "&leads[status][0][name]=%00x")

    assert (deal.title, deal.fields) == ("x", {"x": "ab"})


def test_note_belongs_to_what_it_hangs_on() -> None:
    """Notes of companies come as those of contacts."""
    place = "contacts[note][0][note]"
    body = f"{place}[id]=1&{place}[element_type]=3&{place}[element_id]=8"

    (event,) = read_events(webhook(body))

    assert (event.entity, event.action, event.id) == ("company", "note", "8")


def token(claims: object) -> str:
    """Return a token without a signature that claims this."""
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".s"


@pytest.mark.parametrize(
    ("body", "account"),
    [
        ("account[id]=5&account[subdomain]=7&leads[add][0][id]=1", AmoAccount(id="5", subdomain="7")),
        ("leads[add][0][id]=1&account[subdomain]=oldshop", AmoAccount(subdomain="oldshop")),
        (json.dumps({"token": token({"account_id": "5"})}), AmoAccount(id="5")),
        (json.dumps({"token": token([1])}), AmoAccount()),
        (json.dumps({"token": token({"account_id": [5]})}), AmoAccount()),
        (json.dumps({"token": "a.я.c"}), AmoAccount()),
        (json.dumps({"token": "a.____.c"}), AmoAccount()),
        (json.dumps({"token": 5}), AmoAccount()),
        ("", AmoAccount()),
    ],
)
def test_account_is_told_by_block_or_token(body: bytes | str, account: AmoAccount) -> None:
    """It tells a wrong set-up; nobody proves it."""
    assert read_account(webhook(body)) == account


@pytest.mark.parametrize("body", ["a[b]=1", "", "{", "[{},{}]", b"a=%ff", b"x" * (MAX_BYTES + 1)])
def test_unreadable_body_passes_with_the_key_only(body: bytes | str) -> None:
    """What is broken is kept and looked at, not counted as an attack; without the key it is nobody's."""
    adapter = AmoCrmWebhooks()

    adapter.check(webhook(body), Trust(has_key=True, accounts=["1"]))

    with pytest.raises(UntrustedError) as caught:
        adapter.check(webhook(body), Trust(has_key=False))
    assert caught.value.kind == "forged"
