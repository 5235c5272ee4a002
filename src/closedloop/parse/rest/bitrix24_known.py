"""Names of fields and stages of funnels of one portal, asked once and remembered; knows no deal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from closedloop.domain.deal import Outcome, Step
from closedloop.parse.base import Conversation
from closedloop.parse.rest.answers import Json, Table, inside, object_id, rows, table, text
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, Answers, batch, command
from closedloop.parse.rest.funnels import Stage, unknown

LEAD, DEAL, CONTACT, INVOICE = 1, 2, 3, 31
_LABELS = ("title", "formLabel", "listLabel", "upperName")
_OUTCOMES: Mapping[str, Outcome] = {
    "S": "won",
    "SUCCESS": "won",
    "F": "lost",
    "FAILURE": "lost",
    "APOLOGY": "lost",
}


class Need(NamedTuple):
    """What has to be known of a type of objects: a field by its code, or a stage of a funnel."""

    entity_type: int
    field: str = ""
    funnel: str = ""
    stage: str = ""


class Known:
    """What is remembered of a portal; a field or stage that is not known is asked for, once."""

    def __init__(self) -> None:
        self.labels: dict[int, dict[str, tuple[str, ...]]] = {}
        self.funnels: dict[int, dict[str, Sequence[Stage]]] = {}
        self._asked: set[Need] = set()

    def learn(self, needs: Iterable[Need]) -> Conversation[None]:
        """Ask for what is not known yet; whatever the portal does not tell stays unknown."""
        missing = {need for need in needs if need not in self._asked and not self._has(need)}
        commands = dict(map(_question, missing))
        if not commands:
            return
        answers = yield from batch(commands)
        for need in missing:
            self._take(need, answers)
        self._asked |= missing

    def _has(self, need: Need) -> bool:
        if need.field:
            return need.field in self.labels.get(need.entity_type, {})
        step = need.funnel, need.stage
        return step in {
            (funnel, stage.stage_id)
            for funnel, stages in self.funnels.get(need.entity_type, {}).items()
            for stage in stages
        }

    def _take(self, need: Need, answers: Answers) -> None:
        result = answers.results.get(_question(need)[0])
        if result is None:
            return
        if need.field:
            self.labels[need.entity_type] = labels_of(result)
        else:
            self.funnels.setdefault(need.entity_type, {})[need.funnel] = stages_of(result)


def _question(need: Need) -> tuple[str, str]:
    """Return a name and a command for a batch."""
    if need.field:
        return f"{OPTIONAL}fields_{need.entity_type}", fields_command(need.entity_type)
    name = f"{OPTIONAL}stages_{need.entity_type}_{need.funnel}"
    return name, stages_command(need.entity_type, need.funnel)


def fields_command(entity_type: int) -> str:
    """Return the command that asks for the fields of a type, by the names that people configured."""
    return command("crm.item.fields", {"entityTypeId": entity_type, "useOriginalUfNames": "Y"})


def stages_command(entity_type: int, funnel: str) -> str:
    """Return the command that asks for the stages of one funnel. Source: docs/protocols/bitrix24.md, 5.3."""
    if entity_type == DEAL:
        directory = "DEAL_STAGE" if funnel == "0" else f"DEAL_STAGE_{funnel}"
    elif entity_type == INVOICE:
        directory = f"SMART_INVOICE_STAGE_{funnel}"
    else:
        directory = f"DYNAMIC_{entity_type}_STAGE_{funnel}"
    return command("crm.status.list", {"order": {"SORT": "ASC"}, "filter": {"ENTITY_ID": directory}})


def labels_of(result: Json) -> dict[str, tuple[str, ...]]:
    """Return the labels of each field of `crm.item.fields`: what people see, and the name of old methods."""
    found: dict[str, tuple[str, ...]] = {}
    for name, told in table(inside(result, "fields")).items():
        labels = dict.fromkeys(text(inside(told, key)) for key in _LABELS)
        found[name] = tuple(label for label in labels if label and label != name)
    return found


def stages_of(result: Json) -> list[Stage]:
    """Return the stages of `crm.status.list` in the order in which people see them."""
    ordered = sorted(rows(result), key=_sort)
    return [Stage(stage_id=text(row.get("STATUS_ID")), outcome=_outcome(row)) for row in ordered]


def _sort(row: Table) -> int:
    return int(object_id(row.get("SORT")) or 0)


def _outcome(row: Table) -> Outcome:
    told = text(row.get("SEMANTICS")) or text(inside(row, "EXTRA", "SEMANTICS"))
    return _OUTCOMES.get(told.upper(), "open")


def stage_needs(known: Known, entity_type: int, steps: Sequence[Step]) -> list[Need]:
    """Return what has to be asked to place these steps in their funnels."""
    funnels = known.funnels.get(entity_type, {})
    return [
        Need(entity_type, funnel=step.funnel, stage=step.stage)
        for step in unknown(funnels, steps)
        if step.stage and (step.funnel == "0" or object_id(step.funnel))
    ]
