"""What belongs to deals of Bitrix24: their leads, contacts and the stages that they entered, in few calls."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from closedloop.domain.deal import Step
from closedloop.parse.base import Conversation
from closedloop.parse.rest.answers import Table, chunks, inside, moment, object_id, rows, text
from closedloop.parse.rest.bitrix24_batch import OPTIONAL, PAGE, Answers, batch, command
from closedloop.parse.rest.bitrix24_deal import ItemId, Related, linked_ids

MAX_CONTACTS = 10  # of one deal: beyond are the people of a company, not visitors
# Most deals enter fewer stages than this allows for in one page.
_OWNERS = 10
_METHODS = {"lead": "crm.lead.list", "contact": "crm.contact.list"}


def read_related(items: Mapping[ItemId, Table], *, with_steps: bool) -> Conversation[dict[ItemId, Related]]:
    """Return what belongs to each item. What the portal does not show (no rights, no leads at all) is absent.

    Source: docs/protocols/bitrix24.md, 4 and 5.3.
    """
    links = {at: linked_ids(item) for at, item in items.items()}
    history = _History(items if with_steps else ())
    lead_ids = (lead for lead, _ in links.values())
    contact_ids = (one for _, contacts in links.values() for one in contacts[:MAX_CONTACTS])
    commands = _list_commands("lead", lead_ids) | _list_commands("contact", contact_ids)
    answers = yield from batch(commands | history.commands())
    history.take(answers)
    while further := history.commands():
        history.take((yield from batch(further)))
    leads, contacts = _by_id(answers, "lead"), _by_id(answers, "contact")
    return {
        at: Related(
            lead=leads.get(lead, {}),
            contacts=[contacts[one] for one in own[:MAX_CONTACTS] if one in contacts],
            steps=history.steps(at),
        )
        for at, (lead, own) in links.items()
    }


def _list_commands(kind: str, ids: Iterable[str]) -> dict[str, str]:
    return {
        f"{OPTIONAL}{kind}_{number}": command(
            _METHODS[kind],
            {
                "filter": {"@ID": list(part)},
                "order": {"ID": "ASC"},
                "select": ["*", "UF_*", "PHONE", "EMAIL"],
                "start": -1,
            },
        )
        for number, part in enumerate(chunks(dict.fromkeys(filter(None, ids)), PAGE))
    }


def _by_id(answers: Answers, kind: str) -> dict[str, Table]:
    told = (result for name, result in answers.results.items() if name.startswith(f"{OPTIONAL}{kind}_"))
    return {object_id(row.get("ID")): row for result in told for row in rows(result)}


class _History:
    """Reads the stages that objects entered, page after page by id, some objects at a time."""

    def __init__(self, owners: Iterable[ItemId]) -> None:
        by_type: dict[int, list[str]] = {}
        for owner in owners:
            by_type.setdefault(owner.entity_type, []).append(owner.number)
        self.groups = {
            f"{OPTIONAL}history_{entity_type}_{number}": (entity_type, list(part))
            for entity_type, numbers in by_type.items()
            for number, part in enumerate(chunks(numbers, _OWNERS))
        }
        self.reached = dict.fromkeys(self.groups, 0)
        self.entered: dict[ItemId, list[tuple[datetime, int, Step]]] = {}

    def commands(self) -> dict[str, str]:
        """Return the commands for the next page of every group that may have one."""
        return {
            name: command(
                "crm.stagehistory.list",
                {
                    "entityTypeId": self.groups[name][0],
                    "filter": {"@OWNER_ID": self.groups[name][1], ">ID": last},
                    "order": {"ID": "ASC"},
                    "start": -1,
                },
            )
            for name, last in self.reached.items()
        }

    def take(self, answers: Answers) -> None:
        """Keep what the pages say; a group whose page is not full, or brings nothing new, is finished."""
        for name, last in list(self.reached.items()):
            found = rows(inside(answers.results.get(name), "items"))
            ids = [int(object_id(row.get("ID")) or 0) for row in found]
            for number, row in zip(ids, found, strict=True):
                if number > last:
                    self._keep(ItemId(self.groups[name][0], object_id(row.get("OWNER_ID"))), number, row)
            self.reached[name] = max(ids, default=0)
            if len(found) < PAGE or self.reached[name] <= last:
                del self.reached[name]

    def steps(self, at: ItemId) -> tuple[Step, ...]:
        """Return the stages that one object entered, oldest first."""
        ordered = sorted(self.entered.get(at, ()), key=lambda entry: entry[:2])
        return tuple(step for _, _, step in ordered)

    def _keep(self, owner: ItemId, number: int, row: Table) -> None:
        at, stage = moment(row.get("CREATED_TIME")), text(row.get("STAGE_ID"))
        if at is not None and stage:
            step = Step(funnel=text(row.get("CATEGORY_ID")) or "0", stage=stage, at=at)
            self.entered.setdefault(owner, []).append((at, number, step))
