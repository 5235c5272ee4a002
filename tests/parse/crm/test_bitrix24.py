"""Bitrix24 tells things once and never again: what it says is read, in whatever shape it comes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

import pytest

from closedloop.domain.conversion import ReportedConversion
from closedloop.errors import CallerError, TooLargeError
from closedloop.parse.base import Notice, Reading, Webhooks
from closedloop.parse.crm.bitrix24 import MAX_BYTES, Bitrix24Webhooks, read_messages, subject_of
from fix_bitrix24 import DEAL, MEMBER, SECONDS, SESSION, YM_UID, event, request

webhooks: Webhooks = Bitrix24Webhooks(ZoneInfo("Europe/Moscow"))


def read(body: dict[str, str] | bytes, *, query: str = "") -> Reading:
    """Return what one webhook says."""
    return webhooks.read(request(body, query=query))


def conversion(query: str, body: dict[str, str] | None = None) -> ReportedConversion:
    """Return the only conversion that a robot reports."""
    [told] = read(DEAL if body is None else body, query=query).conversions
    return told


def deals(body: dict[str, str] | bytes) -> list[tuple[str, str]]:
    """Return of which deals a webhook says what."""
    return [(notice.deal_id, notice.kind) for notice in read(body).notices]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ONCRMDEALADD", "changed"),
        ("ONCRMDEALUPDATE", "changed"),
        ("ONCRMDEALDELETE", "deleted"),
        ("ONCRMDEALMOVETOCATEGORY", "changed"),
        ("OnCrmDealUpdate", "changed"),
    ],
)
def test_event_of_a_deal_is_a_notice(name: str, kind: str) -> None:
    """It says that something happened and not what: the deal is read back."""
    assert deals(event(name)) == [("662", kind)]


@pytest.mark.parametrize(
    ("name", "type_id", "told"),
    [
        ("ONCRMDYNAMICITEMADD", "1032", [("DYNAMIC_1032_662", "changed")]),
        ("ONCRMDYNAMICITEMUPDATE", "31", [("SMART_INVOICE_662", "changed")]),
        ("ONCRMDYNAMICITEMDELETE", "128", [("DYNAMIC_128_662", "deleted")]),
        ("ONCRMDYNAMICITEMDELETE_1032", "undefined", [("DYNAMIC_1032_662", "deleted")]),
        ("ONCRMDYNAMICITEMUPDATE", "2", [("662", "changed")]),
        ("ONCRMDYNAMICITEMUPDATE", "1", []),
        ("ONCRMDYNAMICITEMUPDATE", "36", []),
        ("ONCRMDYNAMICITEMUPDATE", "", []),
    ],
)
def test_item_of_a_smart_process_is_a_deal_of_its_type(
    name: str, type_id: str, told: list[tuple[str, str]]
) -> None:
    """Item 662 of a process is another thing than deal 662; an invoice is called as robots call it."""
    assert deals(event(name, data__FIELDS__ENTITY_TYPE_ID=type_id)) == told


@pytest.mark.parametrize(
    "name",
    [
        *("ONCRMLEADADD", "ONCRMCONTACTUPDATE", "ONCRMCOMPANYDELETE", "ONCRMQUOTEUPDATE", "ONCRMINVOICEADD"),
        *("ONCRMDEALUSERFIELDADD", "ONCRMDEALRECURRINGUPDATE", "ONCRMACTIVITYADD", "ONTASKCOMMENTADD"),
    ],
)
def test_event_of_something_else_says_nothing(name: str) -> None:
    """User field 662 and lead 662 are no deals, and such an event is no mistake either."""
    assert read(event(name)) == Reading()


def test_word_undefined_stands_for_nothing() -> None:
    """Bitrix24 writes it where nothing was set."""
    told = event(data__FIELDS__ID="undefined", ts="undefined", auth__domain="undefined")

    [message] = read_messages(request(told))

    assert (message.object_id, message.ts, message.domain) == (None, None, None)
    assert read(told) == Reading()


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (event(data__FIELDS__ID="six"), "data[FIELDS][ID]"),
        (event(data__FIELDS__ID="0"), "data[FIELDS][ID]"),
        (event(data__FIELDS__ID="٦"), "data[FIELDS][ID]"),
        (event("ONCRMDYNAMICITEMADD", data__FIELDS__ENTITY_TYPE_ID="x"), "data[FIELDS][ENTITY_TYPE_ID]"),
        (DEAL | {"document_id[2]": "662"}, "document_id[2]"),
        ({"data[FIELDS][ID]": "662"}, "body"),
        ({"event": ""}, "body"),
        (b"", "body"),
        (b"{", "body"),
        (b'["x"]', "body"),
        (b"event=%FF", "event"),
        (b"event=ONCRMDEALADD" + b"&a[b]" * 2 + b"[c]" * 40 + b"=1", "a" + "[b]" + "[c]" * 25),
    ],
)
def test_unreadable_body_is_refused_by_its_key(body: dict[str, str] | bytes, key: str) -> None:
    """The owner sees in the inbox what could not be understood."""
    with pytest.raises(CallerError) as caught:
        read(body)

    assert caught.value.key.startswith(key)


def test_body_above_the_limit_is_told() -> None:
    """The limit is that of the route."""
    with pytest.raises(TooLargeError):
        read(b"event=" + b"x" * MAX_BYTES)


@pytest.mark.parametrize(
    ("document", "deal_id"),
    [
        ("DEAL_662", "662"),
        ("DYNAMIC_2_662", "662"),
        ("DYNAMIC_1032_21", "DYNAMIC_1032_21"),
        ("SMART_INVOICE_9", "SMART_INVOICE_9"),
        ("DYNAMIC_31_9", "SMART_INVOICE_9"),
    ],
)
def test_bare_robot_is_a_notice_of_its_document(document: str, deal_id: str) -> None:
    """Its deal is read back; goals are counted on whatever can be won."""
    [notice] = read(DEAL | {"document_id[2]": document}).notices

    assert notice == Notice(deal_id=deal_id, kind="changed")


@pytest.mark.parametrize(
    "document",
    [
        *({"document_id[2]": name} for name in ("LEAD_365", "CONTACT_7", "COMPANY_3", "QUOTE_5")),
        {"document_id[2]": "DYNAMIC_5"},
        {"document_id[0]": "lists", "document_id[2]": "57"},
        {"document_id[2]": "undefined"},
        {"document_id[2]": "{{ID}}"},
    ],
)
def test_bare_robot_of_something_else_says_nothing(document: dict[str, str]) -> None:
    """Goals are counted on deals."""
    assert read(DEAL | document) == Reading()


@pytest.mark.parametrize(
    "body",
    [
        b"document_id[0]=crm&document_id[1]=CCrmDocumentDeal&document_id[2]=DEAL_662",
        b"document_id%5B2%5D=DEAL_662&document_id%5B0%5D=crm",
        b"document_id[]=crm&document_id[]=CCrmDocumentDeal&document_id[]=DEAL_662",
        b"document_id=crm&document_id=CCrmDocumentDeal&document_id=DEAL_662",
        b'{"document_id": ["crm", "CCrmDocumentDeal", "DEAL_662"]}',
        b'{"document_id": {"0": "crm", "1": "CCrmDocumentDeal", "2": "DEAL_662"}}',
        b'{"document_id[0]": "crm", "document_id[2]": "DEAL_662"}',
    ],
)
def test_document_is_found_in_every_shape(body: bytes) -> None:
    """Parsers on the way spell lists differently."""
    assert deals(body) == [("662", "changed")]


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"FIELDS": {"ID": 662}}, "ts": int(SECONDS), "auth": {"member_id": MEMBER, "domain": None}},
        {"data[FIELDS][ID]": "662", "ts": SECONDS, "auth[member_id]": MEMBER},
        {"data": {"FIELDS": {"ID": "662"}}, "ts": SECONDS, "auth[member_id]": MEMBER},
    ],
)
def test_json_of_the_same_shape_says_the_same(body: dict[str, object]) -> None:
    """Whoever passes webhooks on likes JSON better, sometimes with the brackets left in the names."""
    raw = json.dumps(body | {"event": "ONCRMDEALUPDATE"}).encode()

    [message] = read_messages(request(raw))

    assert (message.member_id, message.ts) == (MEMBER, int(SECONDS))
    assert deals(raw) == [("662", "changed")]


ADDED = '{"event": "ONCRMDEALADD", "data": {"FIELDS": {"ID": 1}}}'
DELETED = '{"event": "ONCRMDEALDELETE", "data": {"FIELDS": {"ID": 2}}}'
ADDED_FORM = "{0}[event]=ONCRMDEALADD&{0}[data][FIELDS][ID]=1"
DELETED_FORM = "{0}[event]=ONCRMDEALDELETE&{0}[data][FIELDS][ID]=2"


@pytest.mark.parametrize(
    "body",
    [
        f"[{ADDED}, {DELETED}]",
        f'{{"events": [{ADDED}, {DELETED}], "auth": {{}}}}',
        ADDED_FORM.format("0") + "&" + DELETED_FORM.format("1") + "&auth[domain]=d",
        ADDED_FORM.format("events[7]") + "&" + DELETED_FORM.format("events[2]"),
    ],
)
def test_several_events_of_one_body_are_all_read(body: str) -> None:
    """Each of them is told once, like any other."""
    assert deals(body.encode()) == [("1", "changed"), ("2", "deleted")]


def test_robot_with_goal_and_visitor_reports_a_conversion() -> None:
    """All of it stands in the address; the deal is looked at again besides."""
    query = (
        f"session_id={SESSION}&goal_name=payment&goal_value=5%20000%7CRUB&occurred_at=08.03.2025%2015%3A20"
    )

    reading = read(DEAL, query=query)

    [told] = reading.conversions
    assert (told.session_id, told.goal, told.deal_id) == (SESSION, "payment", "662")
    assert (told.value, told.currency) == (Decimal(5000), "RUB")
    assert told.occurred_at == datetime(2025, 3, 8, 12, 20, tzinfo=UTC)
    assert [notice.deal_id for notice in reading.notices] == ["662"]


@pytest.mark.parametrize(
    "query", [f"session_id={SESSION}&ym_uid={YM_UID}", "goal_name=g&session_id=%7B%7BX%7D%7D"]
)
def test_robot_without_goal_or_visitor_reports_none(query: str) -> None:
    """Half a conversion is none; the deal is read back and says the rest."""
    assert read(DEAL, query=query).conversions == ()


def test_identifiers_of_a_robot_are_findings() -> None:
    """They lead to the visitor when the CRM's own fields are empty; the journal shows whence they are."""
    query = f"session_id={SESSION}&ym_uid={YM_UID}&yclid=5&goal_value="

    [notice] = read(DEAL, query=query + "&phone=8%20900%20000-00-01&email=A@mail.example").notices

    assert [(found.kind, found.value, found.place) for found in notice.findings] == [
        ("session_id", SESSION, "robot, session_id"),
        ("ym_uid", YM_UID, "robot, ym_uid"),
        ("yclid", "5", "robot, yclid"),
        ("phone", "+79000000001", "robot, phone"),
        ("email", "a@mail.example", "robot, email"),
    ]


@pytest.mark.parametrize(
    ("document", "query", "deal_id"),
    [
        ("LEAD_365", "", "LEAD_365"),
        ("LEAD_365", "&deal_id=365", "LEAD_365"),
        ("LEAD_365", "&deal_id=662", "662"),
        ("DYNAMIC_1032_21", "&deal_id=%2021%20", "DYNAMIC_1032_21"),
        ("DEAL_662", "&deal_id=DEAL_662", "662"),
        ("DEAL_662", "&deal_id=", "662"),
        ("CONTACT_7", "", "CONTACT_7"),
        ("undefined", "", None),
        ("DYNAMIC_5", "", None),
    ],
)
def test_conversion_counts_on_its_own_document(document: str, query: str, deal_id: str | None) -> None:
    """`{{ID}}` of lead 365 must not be taken for the deal 365, nor one deal for two."""
    told = conversion(f"phone=%2B70000000001&goal_name=g{query}", DEAL | {"document_id[2]": document})

    assert told.deal_id == deal_id


def test_robot_of_a_lead_gives_no_notice() -> None:
    """Nothing is counted on leads but what their robot reports itself."""
    reading = read(DEAL | {"document_id[2]": "LEAD_365"}, query=f"session_id={SESSION}&goal_name=g")

    assert (len(reading.conversions), reading.notices) == (1, ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("goal_value", "much"),
        ("currency", "shells"),
        ("ym_uid", "me"),
        ("occurred_at", "soon"),
        ("yclid", "y" * 999),
    ],
)
def test_bad_value_counts_only_beside_a_goal(key: str, value: str) -> None:
    """With a goal the owner must see the mistake; without one it must not cost the deal its session."""
    query = f"session_id={SESSION}&{key}={value}"

    [notice] = read(DEAL, query=query).notices
    assert [found.kind for found in notice.findings] == ["session_id"]
    with pytest.raises(CallerError) as caught:
        read(DEAL, query=query + "&goal_name=g")
    assert caught.value.key == key


def test_value_cut_at_an_ampersand_loses_only_its_rest() -> None:
    """The sender does not escape it; what is behind becomes a parameter that means nothing."""
    told = conversion(
        f"goal_name={quote_plus('Кофе ')}&{quote_plus(' чай: заказ')}&session_id=s&goal_value=5"
    )

    assert (told.goal, told.session_id, told.value) == ("Кофе", "s", Decimal(5))


def test_properties_of_an_application_are_read_like_a_query() -> None:
    """Its robot says the same, in the body; of a key in both the property counts."""
    body = DEAL | {
        "event_token": "t",
        "properties[session_id]": SESSION,
        "properties[goal_name]": "{{Goal}}",
        "properties[phone][0]": "",
        "properties[phone][1]": "+7 900 000-00-01",
    }

    told = conversion("goal_name=g&session_id=other", body)

    assert (told.session_id, told.goal, told.phone) == (SESSION, "g", "+79000000001")


def test_repetition_is_recognised_by_its_bytes() -> None:
    """A robot of no object of the CRM has no deal to count on."""
    first, again = conversion("session_id=s&goal_name=g"), conversion("session_id=s&goal_name=g")

    assert first.digest == again.digest != conversion("session_id=s&goal_name=h").digest


def test_subject_of_other_objects_is_named_for_people() -> None:
    """The inbox shows what a webhook was about, counted or not."""
    subjects = [
        subject_of(read_messages(request(DEAL | {"document_id[2]": name}))[0])
        for name in ("COMPANY_3", "QUOTE_5", "SMART_B2E_DOC_4")
    ]

    told = [(subject.entity_type, subject.type_id, subject.object_id) for subject in subjects]
    assert told == [
        ("company", 4, "3"),
        ("quote", 7, "5"),
        ("smart_b2e_doc", None, "4"),
    ]
