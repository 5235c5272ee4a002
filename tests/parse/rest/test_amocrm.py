"""amoCRM is asked in few calls, and no lead that changed is passed over, whatever happens meanwhile."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closedloop.domain.deal import Deal
from closedloop.domain.exchange import Reply, Request
from closedloop.errors import CallerError
from closedloop.parse.base import CrmApi
from closedloop.parse.rest.amocrm import MAX_IDS, MIN_PAGE, OVERLAP_S, AmoCrmApi
from fix_account import Account, Row
from fix_conversation import play

SINCE = 1741436400
PIPELINES = [
    {
        "id": 1,
        "_embedded": {
            "statuses": [{"id": 41, "sort": 10}, {"id": 42, "sort": 20}, {"id": 142, "sort": 10000}]
        },
    }
]


def lead(number: int, changed: int = SINCE, **further: object) -> Row:
    """Return a lead as the list shows it."""
    return {"id": number, "updated_at": changed, "status_id": 42, "pipeline_id": 1, "price": 5000, **further}


def account(*leads: Row) -> Account:
    """Return an account with leads and one pipeline."""
    made = Account()
    made.leads = {one["id"]: one for one in leads}
    made.pipelines = PIPELINES
    return made


def read(made: Account, *deal_ids: str) -> dict[str, Deal | None]:
    """Return what is read of leads."""
    api = AmoCrmApi()
    return dict(play(api, api.read_deals(deal_ids), made))


def sweep(api: AmoCrmApi, made: Account, cursor: str) -> tuple[list[Deal], str]:
    """Return the deals of a whole sweep and the cursor of the next."""
    deals: list[Deal] = []
    for _ in range(1000):
        page = play(api, api.changed_deals(cursor), made)
        deals += page.deals
        cursor = page.cursor
        if page.is_last:
            return deals, cursor
    raise AssertionError("the sweep does not end")


def since(second: int) -> datetime:
    """Return the moment of a Unix second."""
    return datetime.fromtimestamp(second, UTC)


def ids(deals: list[Deal]) -> set[int]:
    """Return which deals there are."""
    return {int(deal.deal_id) for deal in deals}


def test_api_is_what_every_adapter_is() -> None:
    """The loops know no CRM by name; seven calls in a second get the account blocked."""
    api: CrmApi = AmoCrmApi()

    assert api.name == "amocrm"
    assert api.calls_per_second + api.burst <= 7


def test_lead_is_read_with_all_that_belongs_to_it() -> None:
    """The phone is the contact's, the money the account's."""
    made = account(lead(7, _embedded={"contacts": [{"id": 84, "is_main": True}]}))
    phone = {"field_code": "PHONE", "values": [{"value": "8 900 000-00-00"}]}
    made.contacts = {84: {"id": 84, "custom_fields_values": [phone]}}

    deal = read(made, "7")["7"]

    assert deal is not None
    assert (str(deal.value), deal.currency, deal.passed) == ("5000", "RUB", ("41", "42"))
    assert [(finding.value, finding.place) for finding in deal.findings] == [
        ("+79000000000", "contact 84, PHONE")
    ]


def test_known_account_costs_a_call_for_a_lead_without_contacts() -> None:
    """Currency and pipelines are remembered, and stages that nobody knows are asked for once."""
    made, api = account(lead(7), lead(8, status_id=99)), AmoCrmApi()
    play(api, api.read_deals(["7", "8"]), made)
    made.asked.clear()

    play(api, api.read_deals(["7", "8"]), made)

    assert made.paths() == ["api/v4/leads"]


def test_new_stage_is_asked_for() -> None:
    """People add stages while we run."""
    made, api = account(lead(7)), AmoCrmApi()
    play(api, api.read_deals(["7"]), made)
    statuses = [*PIPELINES[0]["_embedded"]["statuses"], {"id": 43, "sort": 30}]  # type: ignore[index]
    made.pipelines = [{"id": 1, "_embedded": {"statuses": statuses}}]
    made.leads[7]["status_id"] = 43

    deal = play(api, api.read_deals(["7"]), made)["7"]

    assert deal is not None
    assert deal.passed == ("41", "42", "43")


def test_account_that_tells_no_currency_has_none() -> None:
    """The site's own is taken then."""
    made = account(lead(7))
    made.account = {"id": 1}

    deal = read(made, "7")["7"]

    assert deal is not None
    assert deal.currency is None


def test_many_leads_are_read_in_few_calls() -> None:
    """A bulk action changes a thousand leads at once, and addresses have a limit."""
    made = account(*(lead(number) for number in range(1, 1001)))

    found = read(made, *map(str, range(1, 1001)))

    assert all(found[str(number)] for number in range(1, 1001))
    assert len(made.asked) == 1000 // MAX_IDS + 2


def test_lead_that_is_not_there_is_gone() -> None:
    """It is asked for alone before its money is taken back; the bin answers, too."""
    made = account(lead(7), lead(8, is_deleted=True))

    found = read(made, "7", "8", "9")

    assert [deal_id for deal_id, deal in found.items() if deal is None] == ["8", "9"]
    assert made.paths()[1:3] == ["api/v4/leads/8", "api/v4/leads/9"]


def test_lead_that_the_list_left_out_is_still_read() -> None:
    """The list shows no unsorted requests and lags behind."""
    made = account()

    def answer(request: Request) -> Reply:
        made.leads = {7: lead(7)} if request.path == "api/v4/leads/7" else {}
        return made(request)

    api = AmoCrmApi()

    assert play(api, api.read_deals(["7"]), answer)["7"] is not None


def test_what_is_no_id_is_not_asked_for() -> None:
    """It would ask for another lead, or for all."""
    made = account(lead(7))

    assert read(made, "", "0", "07", "x", "DEAL_7") == {}
    assert made.asked == []


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 1234])
def test_every_changed_lead_is_told(count: int) -> None:
    """Pages are of 250, and the last may be full."""
    api = AmoCrmApi()
    made = account(
        *(lead(number, SINCE + number // 7) for number in range(1, count + 1)), lead(5000, SINCE - 1)
    )

    deals, _ = sweep(api, made, api.first_cursor(since(SINCE)))

    assert ids(deals) == set(range(1, count + 1))


@pytest.mark.parametrize("count", [250, 251, 500, 1000])
def test_bulk_change_in_one_second_does_not_loop(count: int) -> None:
    """More leads of one second than fit into a page would begin this second again for ever."""
    api = AmoCrmApi()
    made = account(*(lead(number) for number in range(1, count + 1)), lead(5000, SINCE + 1))

    deals, _ = sweep(api, made, api.first_cursor(since(SINCE)))

    assert ids(deals) == {*range(1, count + 1), 5000}
    assert len(made.asked) < 20


def test_next_sweep_begins_before_the_last_change_that_was_seen() -> None:
    """Lists lag; without changes the moment stays."""
    api, made = AmoCrmApi(), account(lead(7, SINCE + 100))

    _, cursor = sweep(api, made, api.first_cursor(since(SINCE)))

    assert cursor == api.first_cursor(since(SINCE + 100 - OVERLAP_S))
    assert sweep(api, account(), cursor) == ([], cursor)


def test_cursor_survives_a_restart() -> None:
    """The process may be killed between any two pages, also within one second."""
    made = account(*(lead(number) for number in range(1, 601)))
    cursor = AmoCrmApi().first_cursor(since(SINCE))
    seen: set[int] = set()
    for _ in range(20):
        api = AmoCrmApi()
        page = play(api, api.changed_deals(cursor), made)
        seen |= ids(list(page.deals))
        cursor = page.cursor

    assert seen == set(range(1, 601))


@pytest.mark.parametrize("cursor", ["", "{}", "[]", '{"since":"x"}', "662"])
def test_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    """A sweep that began somewhere by chance would pass leads over."""
    with pytest.raises(CallerError, match="cursor"):
        next(AmoCrmApi().changed_deals(cursor))


def test_pages_get_smaller_after_they_took_too_long() -> None:
    """The same page would take too long again; whatever is under way covers the same leads."""
    api, made = AmoCrmApi(), account(*(lead(number) for number in range(1, 601)))
    first = play(api, api.changed_deals(api.first_cursor(since(SINCE))), made)
    refusal = api.refusal(Request(method="GET", path="api/v4/leads"), Reply(status=504, body=b""))

    deals, _ = sweep(api, made, first.cursor)

    assert refusal is not None
    assert ids(deals) == set(range(1, 601))
    assert dict(made.asked[-1].query)["limit"] == "125"


def test_pages_do_not_get_too_small() -> None:
    """An account that is down all night must not be swept lead by lead in the morning."""
    api = AmoCrmApi()

    for _ in range(20):
        api.refusal(Request(method="GET", path="api/v4/leads"), Reply(status=504, body=b""))

    assert api.limit == MIN_PAGE


EVENTS = st.lists(
    st.tuples(st.integers(0, 10), st.sampled_from(["change", "delete"]), st.integers(1, 300)), max_size=60
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), EVENTS)
def test_no_lead_is_passed_over_while_others_change(
    count: int, in_a_second: int, events: list[tuple[int, str, int]]
) -> None:
    """Leads change and vanish between any two calls, also within the second of a bulk change."""
    api = AmoCrmApi()
    api.limit = MIN_PAGE
    made = account(*(lead(number, SINCE + number // in_a_second) for number in range(1, count + 1)))
    clock = SINCE + 1000

    def meanwhile() -> None:
        nonlocal clock
        clock += 1
        for at, what, number in events:
            if at == clock - SINCE - 1001 and number in made.leads:
                if what == "delete":
                    made.leads.pop(number)
                else:
                    made.leads[number]["updated_at"] = clock

    made.before = meanwhile
    deals, _ = sweep(api, made, api.first_cursor(since(SINCE)))

    told = {int(deal.deal_id): deal.changed_at for deal in deals}
    assert {number: told[number] for number in made.leads} == {
        number: since(one["updated_at"]) for number, one in made.leads.items()
    }


def test_doctor_looks_at_everything_it_needs() -> None:
    """Rights on contacts are found out before the first deal."""
    made, api = account(lead(7)), AmoCrmApi(session_field="field 251")
    made.fields = [{"id": number, "name": f"field {number}"} for number in range(1, 252)]

    found = play(api, api.check(), made)

    assert [one.name for one in found if not one.is_ok] == []
    assert set(made.paths()) >= {
        "api/v4/account",
        "api/v4/leads",
        "api/v4/contacts",
        "api/v4/leads/pipelines",
    }


def test_fields_are_written_by_id_or_code() -> None:
    """The owner sees in the deal where it came from."""
    request = next(AmoCrmApi().write_fields("7", {"500101": "yandex", "UTM_SOURCE": "ya"}))

    assert request == Request(
        method="PATCH",
        path="api/v4/leads/7",
        body={
            "custom_fields_values": [
                {"field_id": 500101, "values": [{"value": "yandex"}]},
                {"field_code": "UTM_SOURCE", "values": [{"value": "ya"}]},
            ]
        },
    )


def test_fields_are_written() -> None:
    """The conversation ends with the answer."""
    made, api = account(lead(7)), AmoCrmApi()

    play(api, api.write_fields("7", {"500101": "yandex"}), made)

    assert [request.method for request in made.asked] == ["PATCH"]


@pytest.mark.parametrize("deal_id", ["", "0", "pipelines", "7/link"])
def test_fields_of_nothing_are_not_written(deal_id: str) -> None:
    """An id that is none must not reach another object."""
    with pytest.raises(CallerError, match="deal_id"):
        next(AmoCrmApi().write_fields(deal_id, {"500101": "x"}))
