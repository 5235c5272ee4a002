"""Bitrix24's `batch`: up to fifty commands in one call, later ones with parts of what earlier ones gave.

Source: docs/protocols/bitrix24.md, 5.4. A reference to nothing is an empty text [inf].
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from platforms.bitrix24_directories import Params, Result, param
from platforms.bitrix24_lists import RestError
from platforms.forms import Json, as_int, as_map, as_php, as_text, parse_form

MAX_COMMANDS = 50
REFERENCE = re.compile(r"\$result((?:\[[^\]]*\])+)")


def run_batch(params: Params, run: Callable[[str, Params], Result], time_of: Callable[[str], Json]) -> Result:
    """Return what `batch` says; with `halt` nothing is done after the first refusal."""
    results: dict[str, Json] = {}
    refusals: dict[str, Json] = {}
    totals: dict[str, Json] = {}
    nexts: dict[str, Json] = {}
    times: dict[str, Json] = {}
    halts = bool(as_int(param(params, "halt"))) or param(params, "halt") is True
    for index, (name, command) in enumerate(as_map(param(params, "cmd")).items()):
        method, given = command_of(as_text(command), results)
        try:
            check_command(index, method)
            given_back = run(method, given)
        except RestError as refusal:
            refusals[name] = {"error": refusal.error, "error_description": refusal.description}
            if halts:
                break
            continue
        results[name] = given_back.result
        times[name] = time_of(method)
        if given_back.total is not None:
            totals[name] = given_back.total
        if given_back.next is not None:
            nexts[name] = given_back.next
    return Result(
        {
            "result": php_keys(results),
            "result_error": php_keys(refusals),
            "result_total": php_keys(totals),
            "result_next": php_keys(nexts),
            "result_time": php_keys(times),
        }
    )


def check_command(index: int, method: str) -> None:
    """Raise RestError for a command too many, and for a batch in a batch."""
    if index >= MAX_COMMANDS:
        raise RestError(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
    if method == "batch":
        raise RestError(400, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")


def php_keys(told: Mapping[str, Json]) -> Json:
    """Return an array of PHP: a list when it is empty or its keys are 0, 1, 2 and so on."""
    return list(told.values()) if isinstance(as_php(dict.fromkeys(told)), list) else told


def command_of(command: str, results: Mapping[str, Json]) -> tuple[str, Params]:
    """Return a command's method and parameters, its references resolved."""
    place = urlsplit(command)
    given = {name: resolved(value, results) for name, value in parse_form(place.query).items()}
    return place.path.removesuffix(".json"), given


def resolved(value: Json, results: Mapping[str, Json]) -> Json:
    """Return a parameter with its references filled in; what is nothing but a reference keeps its kind."""
    if isinstance(value, Mapping):
        return {name: resolved(inner, results) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, results) for inner in value]
    text = as_text(value)
    whole = REFERENCE.fullmatch(text)
    if whole is not None:
        return named(whole[1], results)
    return REFERENCE.sub(lambda found: as_text(named(found[1], results)), text)


def named(path: str, results: Json) -> Json:
    """Return what `[p][items][49][id]` names in the results; an empty text when that is nothing."""
    found = results
    for key in re.findall(r"\[([^\]]*)\]", path):
        if isinstance(found, str):
            return ""
        found = as_map(found).get(key)
    return "" if found is None else found
