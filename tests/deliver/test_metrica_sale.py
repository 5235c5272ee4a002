"""What Metrica would refuse without saying which row it was never gets into a file."""

from decimal import Decimal

import pytest

from closedloop.deliver.metrica_sale import client_id, digits, money_problem
from fix_metrica import YM_UID, sale


@pytest.mark.parametrize("told", [YM_UID, f" {YM_UID} ", "17410000001234567890"])
def test_client_id_is_text_to_the_last_digit(told: str) -> None:
    """Through a float it would belong to somebody else."""
    assert client_id(sale(ids={"ym_uid": told})) == told.strip()


@pytest.mark.parametrize("told", ["", "0", "000", "1.7E+18", "abc", "174100000012345678901", "١٧٤١"])
def test_id_that_is_none_is_empty(told: str) -> None:
    """A placeholder of a form is no visitor."""
    assert digits(told) == ""


def test_client_id_may_be_unknown() -> None:
    """A visitor who blocks Metrica has none."""
    assert client_id(sale(ids={"session_id": "s1"})) == ""


@pytest.mark.parametrize(
    ("value", "currency", "words"),
    [
        (Decimal(-1), "RUB", "the sum -1"),
        (Decimal("NaN"), "RUB", "the sum NaN"),
        (Decimal("Infinity"), "RUB", "the sum Infinity"),
        (Decimal("1E+30"), "RUB", "the sum 1E+30"),
        (Decimal(1), "", "takes roubles"),
        (Decimal(1), "rub", "'rub'"),
    ],
)
def test_money_that_cannot_be_told_has_its_reason(value: Decimal, currency: str, words: str) -> None:
    """A person reads in the journal what to put right."""
    problem = money_problem(sale(value=value, currency=currency))

    assert problem is not None
    assert words in problem


@pytest.mark.parametrize("value", [Decimal(0), Decimal("0.01"), Decimal(10**15)])
def test_usual_money_has_no_problem(value: Decimal) -> None:
    """Nothing that can be told is held back."""
    assert money_problem(sale(value=value, currency="KZT")) is None
