"""What `doctor` says of an amoCRM account, from what the account answered; asks nothing."""

from collections.abc import Sequence

from closedloop.parse.base import Check
from closedloop.parse.rest.answers import Table, currency, text
from closedloop.parse.rest.funnels import Funnels
from closedloop.parse.rest.session_check import session_check

_SPELLINGS = ("name", "code", "id")


def read_checks(
    account: Table, funnels: Funnels, fields: Sequence[Table], session_field: str | None
) -> Sequence[Check]:
    """Return what is right and what is wrong, each with what its owner can do.

    `fields` are those of leads. Leads and contacts could be asked for, else there is nothing to look at.
    """
    return [
        _connection(account),
        Check(name="rights", is_ok=True, sentence="Leads and contacts can be read."),
        _stages(funnels),
        _session_field(fields, session_field),
    ]


def _connection(account: Table) -> Check:
    money = currency(account.get("currency")) or "an unknown currency"
    sentence = f"The account {text(account.get('subdomain')) or text(account.get('id'))} answers, in {money}."
    return Check(name="connection", is_ok=True, sentence=sentence)


def _stages(funnels: Funnels) -> Check:
    is_ok = any(stage.outcome == "won" for stages in funnels.values() for stage in stages)
    if is_ok:
        sentence = f"The account has {len(funnels)} pipelines."
    else:
        sentence = "No pipeline can be read: make the token as an administrator of the account."
    return Check(name="stages", is_ok=is_ok, sentence=sentence)


def _session_field(fields: Sequence[Table], wanted: str | None) -> Check:
    spelled = [[spelling for key in _SPELLINGS if (spelling := text(field.get(key)))] for field in fields]
    return session_check(
        spelled,
        wanted,
        not_there=f"Leads have no field {wanted}, which session_field names",
        none_there="Leads have no field that is called like session_id: make a text field of this name in "
        "amoCRM and map the hidden field session_id of your forms to it.",
    )
