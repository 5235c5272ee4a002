"""What a row for Yandex Metrica is checked for before it is sent: it never says which of them was bad."""

import re

from closedloop.domain.delivery import Sale
from closedloop.domain.money import CURRENCIES

_TOO_MUCH = 10**18
_DIGITS = re.compile(r"[0-9]{1,20}")


def client_id(sale: Sale) -> str:
    """Return Metrica's ClientID as its digits, empty when there is none; text, never a number."""
    return digits(sale.ids.get("ym_uid", ""))


def digits(told: str) -> str:
    """Return an id of digits, empty for zero and for everything else."""
    found = told.strip()
    return found if _DIGITS.fullmatch(found) and found.strip("0") else ""


def money_problem(sale: Sale) -> str | None:
    """Return why the sum cannot be told, None when it can: a guess would be wrong money in the reports."""
    if not sale.value.is_finite() or not 0 <= sale.value < _TOO_MUCH:
        return f"the sum {sale.value} cannot be told to Metrica"
    if sale.currency not in CURRENCIES:
        return f"{sale.currency!r} is no currency, and without one Metrica takes roubles"
    return None
