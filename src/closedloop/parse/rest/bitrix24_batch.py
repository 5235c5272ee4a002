"""Many calls of Bitrix24 in one: commands to a batch, and a batch's answer to what each command said."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.base import Conversation
from closedloop.parse.rest.answers import Json, Table, chunks, inside, read_object, table, text

MAX_COMMANDS = 50
PAGE = 50
# A command whose name begins so may be refused without the whole batch being no success.
OPTIONAL = "may_"
_ABSENT = frozenset({"NOT_FOUND", "NOT FOUND"})

Params: TypeAlias = Mapping[str, str | int | list[str] | Mapping[str, str | int | list[str]]]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What the portal said instead of a result."""

    code: str
    description: str

    @property
    def is_absence(self) -> bool:
        """Whether the object of the command is not there, which is not: may not be seen."""
        return bool(_ABSENT & {self.code.upper(), self.description.upper().rstrip(".")})


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands of one or more batches answered, by their names."""

    results: dict[str, Json] = msgspec.field(default_factory=dict)
    failures: dict[str, Failure] = msgspec.field(default_factory=dict)
    totals: dict[str, str] = msgspec.field(default_factory=dict)
    times: list[Table] = msgspec.field(default_factory=list)


def command(method: str, params: Params) -> str:
    """Return a command of a batch: `crm.item.list?entityTypeId=2&filter[%3EID]=$result[p0][items][49][id]`.

    Source: docs/protocols/bitrix24.md, 5.4.
    """
    return f"{method}?{'&'.join(_query('', params))}"


def batch(commands: Mapping[str, str]) -> Conversation[Answers]:
    """Return what the commands answered, in as many batches as they need, in their order."""
    told = Answers()
    for part in chunks(commands.items(), MAX_COMMANDS):
        reply = yield Request(method="POST", path="batch", body={"halt": 0, "cmd": dict(part)})
        one = read_batch(reply)
        told.results.update(one.results)
        told.failures.update(one.failures)
        told.totals.update(one.totals)
        told.times.extend(one.times)
    return told


def read_batch(reply: Reply) -> Answers:
    """Return what each command of one batch answered; nothing for what is no batch's answer."""
    told = read_object(reply.body)
    results = inside(told, "result", "result")
    failures = table(inside(told, "result", "result_error"))
    return Answers(
        results=dict(table(results)),
        failures={name: read_failure(failure) for name, failure in failures.items()},
        totals={name: text(total) for name, total in table(inside(told, "result", "result_total")).items()},
        times=[table(inside(told, "time"))],
    )


def read_failure(node: Json) -> Failure:
    """Return an error with its code, which may be a number or empty."""
    return Failure(code=text(inside(node, "error")), description=text(inside(node, "error_description")))


def _query(prefix: str, params: Params | list[str]) -> Iterator[str]:
    pairs = enumerate(params) if isinstance(params, list) else params.items()
    for label, value in pairs:
        name = quote(str(label), safe="")
        path = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, str | int):
            # Brackets and `$` as they are: `$result[…]` must reach the portal unescaped.
            yield f"{path}={quote(str(value), safe='[]$')}"
        else:
            yield from _query(path, value)
