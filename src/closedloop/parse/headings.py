"""Names of a spreadsheet's columns, Russian and English, to the keys of the hook; sees no cell below them."""

# ruff: noqa: RUF001 - people name their columns in Russian

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from closedloop.domain.ids import CLICK_IDS, MESSENGER_CODE
from closedloop.domain.money import read_currency
from closedloop.errors import CallerError, OperatorError

STATUS = "status"  # no key of the hook: the stage of a deal, by which rows are chosen
# For each key the names that stand for it, the best first.
NAMES: Mapping[str, tuple[str, ...]] = {
    "session_id": (
        *("session id", "sessionid", "ta session id", "session", "uf crm session id", "uf crm session"),
        *("id сессии", "ид сессии", "идентификатор сессии", "номер сессии", "сессия"),
    ),
    "ym_uid": (
        *("ym uid", "ymuid", "ym client id", "ym clientid", "yandex client id", "yandex clientid"),
        *("metrika client id", "metrica client id", "client id метрики", "clientid метрики"),
        *("client id яндекс метрики", "clientid яндекс метрики", "яндекс client id", "яндекс clientid"),
        *("clientid", "client id"),
    ),
    "deal_id": (
        *("deal id", "dealid", "id сделки", "ид сделки", "номер сделки", "сделка id"),
        *("order id", "orderid", "order number", "id заказа", "ид заказа", "номер заказа", "id", "ид"),
    ),
    "event_id": (
        *("event id", "eventid", "id события", "payment id", "id платежа", "номер платежа"),
        *("transaction id", "id транзакции", "номер транзакции", "id операции", "номер операции"),
    ),
    "goal_name": ("goal name", "goal", "название цели", "цель"),
    "goal_value": (
        *("goal value", "сумма оплаты", "оплаченная сумма", "сумма", "бюджет", "выручка", "стоимость"),
        *("доход", "итого", "итоговая сумма", "цена", "revenue", "amount", "value", "total", "sum", "budget"),
        *("price", "opportunity", "income"),
    ),
    "currency": ("currency", "currency id", "валюта", "код валюты"),
    "occurred_at": (
        *("occurred at", "дата и время оплаты", "дата оплаты", "paid at", "payment date", "date paid"),
        *(
            "дата и время закрытия",
            "дата закрытия",
            "дата завершения",
            "closed at",
            "close date",
            "closedate",
        ),
        *("date closed", "дата продажи", "дата покупки", "purchase date", "дата и время", "дата", "date"),
        *("datetime", "timestamp", "дата создания", "created at", "date created", "date create"),
    ),
    "phone": (
        *("phone", "phone number", "телефон", "номер телефона", "мобильный телефон", "мобильный"),
        *("рабочий телефон", "mobile phone", "mobile", "work phone", "тел", "домашний телефон"),
        *("другой телефон", "телефон 1", "телефон 2", "phone 1", "phone 2"),
    ),
    "email": (
        *("email", "e mail", "mail", "email address", "почта", "электронная почта", "эл почта", "имейл"),
        *("адрес электронной почты", "рабочий email", "рабочий e mail", "личный email", "личный e mail"),
        *("частный email", "частный e mail", "work email", "work e mail", "другой email", "другой e mail"),
    ),
    **{name: (name.replace("_", " "),) for name in (*CLICK_IDS, MESSENGER_CODE)},
    STATUS: (
        *("стадия", "этап", "статус", "stage", "status", "stage id", "status id", "статус оплаты"),
        *("payment status",),
    ),
}
KEYS = tuple(NAMES)
# What leads to a visitor: without one of these no row of a table can be read.
IDENTIFIERS = ("session_id", "ym_uid", "phone", "email", *CLICK_IDS, MESSENGER_CODE)
# A person has several of these, each in a column of its own; the first that is filled counts.
_SEVERAL = frozenset({"phone", "email"})

_KNOWN = {name: (rank, key) for key, names in NAMES.items() for rank, name in enumerate(names)}
_OF_A_PERSON = frozenset(
    (
        *("контакт", "контакта", "контакты", "компания", "компании", "клиент", "клиента", "покупатель"),
        *("покупателя", "основной", "contact", "company", "customer", "client"),
    )
)
_OF_A_DEAL = frozenset(("сделка", "сделки", "заказ", "заказа", "deal", "order"))
_PLAIN = {
    **dict.fromkeys(_SEVERAL, _OF_A_PERSON),
    **dict.fromkeys(("goal_value", "currency", "occurred_at", STATUS), _OF_A_DEAL),
}
_WORD = re.compile(r"[^\W_]+|[₽$€£₸₴₺₾₼֏]")


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column that is read: its place from 0, its name as it stands, and the key of the hook that it is.

    `currency` is the one that the name tells (`Сумма, ₽`), for sums that tell none.
    """

    key: str
    place: int
    name: str
    currency: str | None = None


def guess_columns(names: Sequence[str], chosen: Mapping[str, str]) -> tuple[Column, ...]:
    """Return the columns that are read in a table with these names, by key in the order of `KEYS`.

    `chosen` are names that the owner gave to keys, `{"goal_value": "Сумма"}`; an empty name takes no column
    for the key. Only phone and e-mail may have several columns, the best first. Raises OperatorError for a
    chosen name that is not there.
    """
    own = [_chosen(names, key, name) for key, name in chosen.items() if name]
    taken = {column.place for column in own}
    found: list[tuple[int, Column]] = []
    for place, name in enumerate(names):
        told = _recognised(name) if place not in taken else None
        if told is not None and told[1].key not in chosen:
            found.append((told[0], msgspec.structs.replace(told[1], place=place)))
    found.sort(key=lambda one: (one[0], one[1].place))
    best: dict[str, list[Column]] = {}
    for column in [*own, *(column for _, column in found)]:
        if column.key not in best or column.key in _SEVERAL:
            best.setdefault(column.key, []).append(column)
    return tuple(column for key in KEYS for column in best.get(key, ()))


def find_header(rows: Iterable[Sequence[str]], chosen: Mapping[str, str]) -> int:
    """Return the place of the row that names the columns: the first of those that name the most keys.

    Raises OperatorError when no row names a column by which a visitor could be found.
    """
    counted = [(_count_keys(row, chosen), -place) for place, row in enumerate(rows)]
    most, place = max(counted, default=(0, 0))
    if not most:
        raise OperatorError(
            "no row on top of the table names a column that leads to a visitor: session_id, ym_uid, phone, "
            'e-mail, yclid…; say which column is which: --column phone="Контактный номер"'
        )
    return -place


def _count_keys(row: Sequence[str], chosen: Mapping[str, str]) -> int:
    """Return how many keys a row names, none if no visitor could be found by them."""
    simple = {_simple(name) for name in row}
    keys = {told[1].key for name in row if (told := _recognised(name)) is not None}
    keys |= {key for key, name in chosen.items() if name and _simple(name) in simple}
    return len(keys) if keys.intersection(IDENTIFIERS) else 0


def _chosen(names: Sequence[str], key: str, name: str) -> Column:
    for place, there in enumerate(names):
        if _simple(there) == _simple(name):
            told = _recognised(there)
            currency = told[1].currency if told is not None and key == "goal_value" else None
            return Column(key=key, place=place, name=there.strip(), currency=currency)
    known = ", ".join(there.strip() for there in names if there.strip())
    raise OperatorError(f"--column {key}={name}: the table has no such column; it has: {known}")


def _recognised(name: str) -> tuple[int, Column] | None:
    """Return what a name stands for and how good a name it is for that, 0 the best; None when unknown."""
    words = _words(name)
    found = _KNOWN.get(" ".join(words))
    currency = None
    if found is None:
        found = _with_less(words)
    if found is None:
        currency = _currency_among(words)
        fewer = [word for word in words if _currency_of(word) is None]
        found = _KNOWN.get(" ".join(fewer)) or _with_less(fewer) if currency else None
        if found is not None and found[1] != "goal_value":
            return None
    if found is None:
        return None
    return found[0], Column(key=found[1], place=0, name=name.strip(), currency=currency)


def _with_less(words: Sequence[str]) -> tuple[int, str] | None:
    """Return what a name means without the words that say whose it is: `Дата закрытия сделки`."""
    for less in (_OF_A_PERSON, _OF_A_DEAL):
        found = _KNOWN.get(" ".join(word for word in words if word not in less))
        if found is not None and _PLAIN.get(found[1]) is less:
            return found
    return None


def _currency_among(words: Iterable[str]) -> str | None:
    return next((code for word in words if (code := _currency_of(word)) is not None), None)


def _currency_of(word: str) -> str | None:
    try:
        return read_currency(word)
    except CallerError:
        return None


def _simple(name: str) -> str:
    return " ".join(_words(name))


def _words(name: str) -> list[str]:
    return _WORD.findall(name.casefold().replace("ё", "е").replace("№", " номер "))
