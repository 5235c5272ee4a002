"""Which column is money and which is a visitor is guessed from its name: a wrong guess costs the history."""

# ruff: noqa: RUF001 - people name their columns in Russian

import pytest

from closedloop.errors import OperatorError
from closedloop.parse.headings import KEYS, NAMES, find_header, guess_columns


def keys(*names: str, **chosen: str) -> dict[str, str]:
    """Return the first column of each key, as `{"goal_value": "Сумма"}`."""
    found: dict[str, str] = {}
    for column in guess_columns(names, chosen):
        found.setdefault(column.key, column.name)
    return found


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("session_id", "session_id"),
        ("Session ID", "session_id"),
        ("ym_uid", "ym_uid"),
        ("_ym_uid", "ym_uid"),
        ("ClientID Яндекс.Метрики", "ym_uid"),
        ("ID", "deal_id"),
        ("№ заказа", "deal_id"),
        ("Номер сделки", "deal_id"),
        ("ID сделки", "deal_id"),
        ("ID платежа", "event_id"),
        ("Сумма", "goal_value"),
        ("Сумма сделки", "goal_value"),
        ("Бюджет, ₽", "goal_value"),
        ("Сумма (руб.)", "goal_value"),
        ("Order total", "goal_value"),
        ("Валюта", "currency"),
        ("Дата закрытия сделки", "occurred_at"),
        ("Дата и время оплаты", "occurred_at"),
        ("Date", "occurred_at"),
        ("Рабочий телефон (контакт)", "phone"),
        ("Контакт: Рабочий телефон", "phone"),
        ("ТЕЛЕФОН", "phone"),
        ("E-mail", "email"),
        ("Эл. почта", "email"),
        ("yclid", "yclid"),
        ("rb_clickid", "rb_clickid"),
        ("ta_code", "ta_code"),
        ("Этап сделки", "status"),
        ("Стадия", "status"),
    ],
)
def test_name_of_a_column_is_known(name: str, key: str) -> None:
    """These are the names that people and the exports of their CRMs use."""
    assert keys(name) == {key: name}


@pytest.mark.parametrize(
    "name", ["№", "Номер", "ID контакта", "Название сделки", "Контакт", "Total USD x", ""]
)
def test_name_that_means_something_else_is_left_alone(name: str) -> None:
    """The number of a row or of a contact is no deal: its sales would be counted as one another's."""
    assert keys(name) == {}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_names_that_stand_for_it_alone(key: str) -> None:
    """A name under two keys would be decided by the order of a table in our source."""
    assert all(keys(name) == {key: name} for name in NAMES[key])


def test_better_name_wins_wherever_it_stands() -> None:
    """An export has three dates, and the day of the payment is the one that counts."""
    assert keys("Дата создания", "Дата закрытия", "Дата оплаты") == {"occurred_at": "Дата оплаты"}


def test_first_of_equal_names_wins() -> None:
    """A table that was joined from two has its own columns first."""
    columns = guess_columns(["Сумма", "Сумма"], {})

    assert [column.place for column in columns] == [0]


def test_person_may_have_several_phones() -> None:
    """A CRM exports the work phone and the mobile one apart, and one of them is empty."""
    columns = guess_columns(["Мобильный телефон", "ID", "Телефон"], {})

    assert [(column.key, column.place) for column in columns] == [
        ("deal_id", 1),
        ("phone", 2),
        ("phone", 0),
    ]


@pytest.mark.parametrize(("name", "currency"), [("Сумма, USD", "USD"), ("Бюджет ₽", "RUB"), ("Сумма", None)])
def test_currency_in_a_name_is_that_of_the_sums(name: str, currency: str | None) -> None:
    """Dollars that were read as roubles are off by two digits."""
    assert [column.currency for column in guess_columns([name], {})] == [currency]


def test_owner_has_the_last_word() -> None:
    """Only they know that the budget is a plan and the money stands elsewhere."""
    names = "Бюджет", "Поступило", "Телефон"

    assert keys(*names, goal_value="поступило ") == {"goal_value": "Поступило", "phone": "Телефон"}
    assert keys(*names, goal_value="") == {"phone": "Телефон"}
    assert keys(*names, deal_id="Телефон") == {"goal_value": "Бюджет", "deal_id": "Телефон"}


def test_owner_is_told_what_the_table_has() -> None:
    """A typing mistake in the name of a column is mended by looking at the names."""
    with pytest.raises(OperatorError, match=r"goal_value=Суммма: .* it has: Сумма, Телефон"):
        guess_columns(["Сумма", "", "Телефон"], {"goal_value": "Суммма"})


def test_header_is_found_below_titles() -> None:
    """Reports begin with their name and the month."""
    rows = [["Отчёт за ноябрь"], [], ["№", "Сумма"], ["№", "Телефон", "Сумма"], ["1", "Телефон", "5"]]

    assert find_header(rows, {}) == 3


def test_header_may_be_known_from_the_owner_alone() -> None:
    """A table of somebody else's making has names that nobody can guess."""
    assert find_header([["x"], ["Кто", "Сколько"]], {"phone": "Кто"}) == 1


@pytest.mark.parametrize("rows", [[], [["1", "2"]], [["ID", "Сумма", "Дата"]]])
def test_table_without_a_visitor_is_refused_as_a_whole(rows: list[list[str]]) -> None:
    """Else each of its rows would be refused with the same sentence."""
    with pytest.raises(OperatorError, match="leads to a visitor"):
        find_header(rows, {})
