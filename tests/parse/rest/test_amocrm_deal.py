"""A lead is what the account shows, to the kopeck, with every way back to its visitor, the surest first."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from closedloop.domain.deal import Deal
from closedloop.parse.rest.amocrm_deal import (
    Account,
    contact_ids,
    deal_of,
    funnels_of,
    goal_fields,
    step_of,
)
from closedloop.parse.rest.answers import Json, Table, read_object
from closedloop.parse.rest.funnels import Stage

SESSION = "9f1c2b1e-4d5a-4c3b-8a7e-1f2d3c4b5a69"
# The lead of the protocol page, with a session and a ClientID in it.
PAGE = (
    '{"id":30100001,"name":"Lead","price":5000,"responsible_user_id":9000001,"group_id":0,"status_id":142,'
    '"pipeline_id":4500001,"loss_reason_id":null,"source_id":null,"created_by":0,"updated_by":9000001,'
    '"created_at":1741000000,"updated_at":1741436400,"closed_at":1741436400,"closest_task_at":null,'
    '"is_deleted":false,"custom_fields_values":['
    '{"field_id":500101,"field_name":"session_id","field_code":null,"field_type":"text",'
    '"values":[{"value":"sess-1"}]},'
    '{"field_id":500102,"field_name":"_ym_uid","field_code":"_YM_UID","field_type":"tracking_data",'
    '"values":[{"value":"1741000000123456789"}]},'
    '{"field_id":500104,"field_name":"Color","field_code":null,"field_type":"select",'
    '"values":[{"value":"red","enum_id":853001,"enum_code":null}]},'
    '{"field_id":500105,"field_name":"Date","field_code":null,"field_type":"date","values":[{"value":1741381200}]}'
    '],"score":null,"account_id":30000001,"labor_cost":null,'
    '"_embedded":{"tags":[],"companies":[],"contacts":[{"id":37000001,"is_main":false},'
    '{"id":37000002,"is_main":true}],"loss_reason":[]}}'
)
ACCOUNT = Account(
    currency="RUB",
    funnels={
        "4500001": [
            Stage(stage_id="41000001"),
            Stage(stage_id="41000002"),
            Stage(stage_id="142", outcome="won"),
            Stage(stage_id="143", outcome="lost"),
        ]
    },
)


def lead(**further: Json) -> Table:
    """Return the lead of the page, with something in it changed."""
    return (read_object(PAGE.encode()) or {}) | further


def field(name: str, value: Json, *, code: str | None = None, kind: str = "text") -> Json:
    """Return one filled field."""
    values: Json = [{"value": value}]
    return {"field_id": "7", "field_name": name, "field_code": code, "field_type": kind, "values": values}


def read(told: Table, *contacts: Table, session_field: str | None = None) -> Deal:
    """Return the deal of a lead."""
    return deal_of(told, contacts, ACCOUNT, session_field)


def test_won_lead_is_read_whole() -> None:
    """Sum, moment and stages go into the ledger."""
    deal = read(lead())

    assert (deal.crm, deal.deal_id, deal.title) == ("amocrm", "30100001", "Lead")
    assert (deal.funnel, deal.stage, deal.outcome) == ("4500001", "142", "won")
    assert (deal.value, deal.currency) == (Decimal(5000), "RUB")
    assert (deal.created_at, deal.closed_at, deal.changed_at) == (
        datetime(2025, 3, 3, 11, 6, 40, tzinfo=UTC),
        datetime(2025, 3, 8, 12, 20, tzinfo=UTC),
        datetime(2025, 3, 8, 12, 20, tzinfo=UTC),
    )
    assert (deal.passed, deal.is_qualified) == (("41000001", "41000002", "142"), True)
    assert [(finding.kind, finding.value, finding.place) for finding in deal.findings] == [
        ("session_id", "sess-1", "deal 30100001, session_id"),
        ("ym_uid", "1741000000123456789", "deal 30100001, _YM_UID"),
    ]


@pytest.mark.parametrize(
    ("status", "outcome", "is_closed", "passed"),
    [
        ("143", "lost", True, ("143",)),
        ("41000001", "open", False, ("41000001",)),
        ("41000002", "open", False, ("41000001", "41000002")),
    ],
)
def test_outcome_goes_by_the_status(
    status: str,
    outcome: str,
    is_closed: bool,  # noqa: FBT001
    passed: tuple[str, ...],
) -> None:
    """Two numbers mean won and lost in every pipeline; a lead that was opened again keeps its old moment."""
    deal = read(lead(status_id=status))

    assert (deal.outcome, deal.closed_at is not None, deal.passed) == (outcome, is_closed, passed)


@pytest.mark.parametrize(
    ("price", "exact", "value"),
    [
        ("5000", None, Decimal(5000)),
        ("100", "100.5", Decimal("100.5")),
        ("0", None, Decimal(0)),
        (None, None, None),
        (None, "", None),
    ],
)
def test_sum_keeps_its_kopecks(price: Json, exact: Json, value: Decimal | None) -> None:
    """The old field is cut to whole units; what is not told is not zero."""
    assert read(lead(price=price, price_with_minor_units=exact)).value == value


def test_lead_without_fields_is_read() -> None:
    """`null` stands where nothing is filled."""
    assert read(lead(custom_fields_values=None, _embedded=None)).findings == ()


@pytest.mark.parametrize("session_field", ["7", "MY_CODE", "Поле 1", "my-code"])
def test_configured_field_is_known_by_id_code_and_name(session_field: str) -> None:
    """The owner copies any of the three from the screen."""
    told = lead(
        custom_fields_values=[field("Поле 1", SESSION, code="MY_CODE"), field("session_id", "sess-9")]
    )

    assert read(told, session_field=session_field).findings[0].value == SESSION


def test_contacts_add_fields_phones_and_emails() -> None:
    """What stands in the lead is surer than what its contact once had."""
    contact: Table = {
        "id": "37000002",
        "custom_fields_values": [
            field("Телефон", "8 900 000-00-00", code="PHONE", kind="multitext"),
            field("Email", "Anna@Shop.example", code="EMAIL", kind="multitext"),
            field("session_id", "sess-2"),
        ],
    }

    findings = read(lead(), contact).findings

    assert [(finding.kind, finding.value) for finding in findings] == [
        ("session_id", "sess-1"),
        ("ym_uid", "1741000000123456789"),
        ("session_id", "sess-2"),
        ("phone", "+79000000000"),
        ("email", "anna@shop.example"),
    ]
    assert findings[3].place == "contact 37000002, PHONE"


def test_phone_in_a_lead_is_not_the_visitors() -> None:
    """It is the manager's as often as not, and managers try their own forms."""
    told = lead(custom_fields_values=[field("Телефон менеджера", "+79000000000")])

    assert read(told).findings == ()


def test_long_field_is_searched_like_a_comment() -> None:
    """Forms are poured into it whole."""
    told = lead(custom_fields_values=[field("Заявка", f"Имя: Анна\nID сессии: {SESSION}", kind="textarea")])

    assert [(finding.value, finding.place) for finding in read(told).findings] == [
        (SESSION, "deal 30100001, Заявка")
    ]


def test_goal_may_take_its_value_from_any_field() -> None:
    """Owners name the field by id, code or name."""
    told = lead(custom_fields_values=[field("Маржа", "300", code="MARGIN"), field("Маржа", "400")])

    assert goal_fields(told) == {"price": "5000", "7": "300", "MARGIN": "300", "Маржа": "300"}


def test_deleted_lead_says_so() -> None:
    """Its money is taken back."""
    assert read(lead(is_deleted=True)).is_deleted


def test_main_contact_is_the_first() -> None:
    """The others are colleagues."""
    assert contact_ids(lead()) == ["37000002", "37000001"]
    assert contact_ids({}) == []


def test_stages_stand_in_the_order_of_people() -> None:
    """What is in the request box is no deal yet, so that the stage behind it is the first."""
    statuses = [
        {"id": 142, "sort": 10000, "type": 0},
        {"id": 41000002, "sort": 30, "type": 0},
        {"id": 41000000, "sort": 10, "type": 1},
        {"id": 41000001, "sort": 20, "type": 0},
        {"id": 143, "sort": 11000, "type": 0},
    ]
    pipelines = [{"id": 4500001, "_embedded": {"statuses": statuses}}]
    answer = read_object(repr({"_embedded": {"pipelines": pipelines}}).replace("'", '"').encode())

    assert funnels_of(answer) == ACCOUNT.funnels
    assert funnels_of(None) == {}


def test_step_names_funnel_and_stage() -> None:
    """Goals may count one pipeline only."""
    assert (step_of(lead()).funnel, step_of(lead()).stage) == ("4500001", "142")


ANY = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.lists(st.fixed_dictionaries({"field_id": ANY, "field_name": ANY, "values": ANY}), max_size=3)


@given(st.dictionaries(st.sampled_from(list(lead())), ANY), FIELDS)
def test_any_lead_is_read(told: dict[str, object], fields: list[dict[str, object]]) -> None:
    """One odd lead must not hold up the page that it is on."""
    odd = cast("Table", {**told, "id": "7", "custom_fields_values": fields})

    assert read(odd, odd).deal_id == "7"
