"""A destination that is only told answers every question of the engine with nothing."""

from closedloop.deliver.one_way import OneWay
from closedloop.domain.delivery import Outcome
from closedloop.domain.exchange import HttpReply
from fix_destinations import NOW, batch, sale


def test_nothing_is_asked() -> None:
    """The engine must not wait for a verdict that never comes."""
    assert OneWay().ask(batch(), "", None) is None
    assert OneWay().check(None, NOW) is None


def test_answer_to_no_question_says_nothing() -> None:
    """One verdict for each sale, and none of them final."""
    reply = HttpReply(status=200)

    learned = OneWay().learn(batch(sale(), sale()), "", reply, None)
    assert [one.outcome for one in learned] == [Outcome.UNKNOWN_OUTCOME] * 2
    assert OneWay().judge(reply, None).outcome == Outcome.UNKNOWN_OUTCOME
