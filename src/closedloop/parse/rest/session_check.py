"""What `doctor` says of the field of the session, for any CRM; knows none."""

from collections.abc import Sequence

from closedloop.parse.base import Check
from closedloop.parse.search import SESSION, is_same_name, kind_of

_SHOWN = 5


def session_check(
    spelled: Sequence[Sequence[str]], wanted: str | None, *, not_there: str, none_there: str
) -> Check:
    """Return whether the owner's field, or any that is called like one of the session, is there.

    `spelled` are the spellings of each field, the shown one first. `not_there` is the beginning of what is
    said of a `wanted` field that is missing, `none_there` what is said when nothing is wanted or found.
    """
    shown = ", ".join([names[0] for names in spelled if SESSION in map(kind_of, names)][:_SHOWN])
    if wanted is not None:
        if any(is_same_name(wanted, one) for names in spelled for one in names):
            return field_check(is_ok=True, sentence=f"The field {wanted} is there.")
        hint = f"did you mean {shown}?" if shown else "make it, or leave session_field out."
        return field_check(is_ok=False, sentence=f"{not_there}: {hint}")
    if shown:
        return field_check(is_ok=True, sentence=f"The session is looked for in {shown}.")
    return field_check(is_ok=False, sentence=none_there)


def field_check(*, is_ok: bool, sentence: str) -> Check:
    """Return the check of this name."""
    return Check(name="session field", is_ok=is_ok, sentence=sentence)
