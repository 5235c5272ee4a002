"""What `doctor` looks at in a Bitrix24 portal, and the sentences it prints; asks nothing by itself."""

from collections.abc import Sequence

from closedloop.parse.base import Check
from closedloop.parse.rest.answers import texts
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, Answers, command
from closedloop.parse.rest.bitrix24_known import (
    CONTACT,
    DEAL,
    LEAD,
    fields_command,
    labels_of,
    stages_command,
    stages_of,
)
from closedloop.parse.rest.session_check import field_check, session_check

_READ = {"deals": DEAL, "leads": LEAD, "contacts": CONTACT}


def check_commands() -> dict[str, str]:
    """Return one batch of which every command may be refused, so that all that is wrong is told at once."""
    commands = {
        "scope": "scope",
        "fields": fields_command(DEAL),
        "lead_fields": fields_command(LEAD),
        "stages": stages_command(DEAL, "0"),
        **{
            name: command("crm.item.list", {"entityTypeId": entity_type, "select": ["id"], "start": -1})
            for name, entity_type in _READ.items()
        },
    }
    return {f"{OPTIONAL}{name}": told for name, told in commands.items()}


def read_checks(answers: Answers, session_field: str | None) -> Sequence[Check]:
    """Return what is right and what is wrong, each with what its owner can do."""
    return [
        Check(name="connection", is_ok=True, sentence="The portal answers."),
        _rights(answers),
        _stages(answers),
        _session_field(answers, session_field),
    ]


def _rights(answers: Answers) -> Check:
    scopes = [scope.lower() for scope in texts(answers.results.get(f"{OPTIONAL}scope"))]
    unread = [name for name in _READ if f"{OPTIONAL}{name}" not in answers.results]
    # A portal in the simple mode has no leads, and misses nothing.
    is_ok = (not scopes or "crm" in scopes) and not set(unread) - {"leads"}
    if scopes and "crm" not in scopes:
        sentence = "The webhook lacks the permission CRM: tick it in the webhook's settings in Bitrix24."
    elif unread == ["leads"]:
        sentence = "Deals and contacts can be read, leads cannot: that is right for a portal without leads."
    elif unread:
        sentence = (
            f"The portal does not show {', '.join(unread)}: give whoever made the webhook "
            "the right to read them, or make it as an administrator."
        )
    else:
        sentence = "Deals, leads and contacts can be read."
    return Check(name="rights", is_ok=is_ok, sentence=sentence)


def _stages(answers: Answers) -> Check:
    stages = stages_of(answers.results.get(f"{OPTIONAL}stages"))
    is_ok = any(stage.outcome == "won" for stage in stages)
    if is_ok:
        sentence = f"The first funnel has {len(stages)} stages."
    else:
        sentence = "The stages of the first funnel cannot be read: the webhook needs the permission CRM."
    return Check(name="stages", is_ok=is_ok, sentence=sentence)


def _session_field(answers: Answers, wanted: str | None) -> Check:
    if not {f"{OPTIONAL}fields", f"{OPTIONAL}lead_fields"} & set(answers.results):
        sentence = "The fields of deals cannot be read: the webhook needs the permission CRM."
        return field_check(is_ok=False, sentence=sentence)
    spelled = {
        name: (name, *labels)
        for told in ("fields", "lead_fields")
        for name, labels in labels_of(answers.results.get(f"{OPTIONAL}{told}")).items()
    }
    return session_check(
        list(spelled.values()),
        wanted,
        not_there=f"Neither deals nor leads have the field {wanted} that session_field names",
        none_there="Neither deals nor leads have a field that is called like session_id: make a text field "
        "of this name in Bitrix24 and map the hidden field session_id of your forms to it. Comments are read "
        "as well.",
    )
