"""Many calls in one: each command keeps its own answer, and a refused one does not look like an empty one."""

import pytest

from closedloop.domain.exchange import Reply, Request
from closedloop.parse.rest.bitrix24_batch import Failure, batch, command, read_batch


def test_command_is_written_with_brackets() -> None:
    """The portal reads a query as PHP does, and puts references in itself."""
    written = command(
        "crm.item.list",
        {
            "entityTypeId": 2,
            "filter": {">=updatedTime": "2025-03-08T15:20:00+03:00", "@id": ["1", "2"]},
            "start": "$result[p0][items][49][id]",
        },
    )

    assert written == (
        "crm.item.list?entityTypeId=2&filter[%3E%3DupdatedTime]=2025-03-08T15%3A20%3A00%2B03%3A00"
        "&filter[%40id][0]=1&filter[%40id][1]=2&start=$result[p0][items][49][id]"
    )


def test_answers_and_errors_are_told_apart() -> None:
    """The page on batches shows an error with an empty code; empty maps are lists."""
    told = read_batch(
        Reply(
            status=200,
            body=b'{"result":{"result":{"d":{"ID":"662"}},"result_error":{"l":{"error":"","error_description":'
            b'"Not found"}},"result_total":{"d":7},"result_next":[],"result_time":[]},"time":{"start":1.5}}',
        )
    )

    assert told.results == {"d": {"ID": "662"}}
    assert told.failures == {"l": Failure(code="", description="Not found")}
    assert told.totals == {"d": "7"}
    assert told.times == [{"start": "1.5"}]


def test_empty_batch_is_read() -> None:
    """PHP writes `[]` for nothing."""
    told = read_batch(Reply(status=200, body=b'{"result":{"result":[],"result_error":[],"result_total":[]}}'))

    assert (told.results, told.failures, told.totals) == ({}, {}, {})


@pytest.mark.parametrize(
    ("code", "description", "is_absence"),
    [
        ("", "Not found", True),
        ("NOT_FOUND", "Element not found", True),
        ("0", "Not found.", True),
        ("", "Access denied", False),
        ("ACCESS_DENIED", "", False),
        ("ERROR_METHOD_NOT_FOUND", "Method not found!", False),
        ("", "", False),
    ],
)
def test_only_what_is_not_there_is_absent(code: str, description: str, is_absence: bool) -> None:  # noqa: FBT001
    """What may not be seen would otherwise be taken for deleted, and its money taken back."""
    assert Failure(code=code, description=description).is_absence is is_absence


def test_commands_go_in_fifties() -> None:
    """The 51st command of a batch is refused."""
    conversation = batch({f"c{number}": "scope" for number in range(51)})
    asked: list[Request] = [next(conversation)]
    first = b'{"result":{"result":{"c0":["crm"]},"result_error":[]}}'
    asked.append(conversation.send(Reply(status=200, body=first)))

    with pytest.raises(StopIteration) as stop:
        conversation.send(Reply(status=200, body=b'{"result":{"result":{"c50":["crm"]},"result_error":[]}}'))

    assert [len(dict(request.body or {})["cmd"]) for request in asked] == [50, 1]  # type: ignore[arg-type]
    assert list(stop.value.value.results) == ["c0", "c50"]


def test_no_command_is_no_call() -> None:
    """Every call counts against a limit that others share."""
    with pytest.raises(StopIteration):
        next(batch({}))
