"""A lead that comes twice is one lead."""

from closedloop.domain.lead import lead_key


def test_number_of_the_sender_says_which_lead_it_is() -> None:
    """Tilda sends the same form again a minute later when our answer was lost."""
    assert lead_key("tilda", "7:1", b"a") == lead_key("tilda", "7:1", b"b")
    assert lead_key("tilda", "7:1", b"a") != lead_key("tilda", "7:2", b"a")
    assert lead_key("tilda", "7:1", b"a") != lead_key("other", "7:1", b"a")


def test_without_a_number_the_bytes_do() -> None:
    """A number that looks like somebody's bytes is still a number."""
    assert lead_key("tilda", None, b"a") == lead_key("tilda", None, b"a")
    assert lead_key("tilda", None, b"a") != lead_key("tilda", None, b"b")
    assert lead_key("tilda", b"a".hex(), b"a") != lead_key("tilda", None, b"a")
