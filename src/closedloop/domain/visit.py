"""What is known of one session from its pages: facts with names, so that twice told is once known."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

VERSION = 1
Facts = dict[str, Any]


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about one session of one visitor, from one hit or from several merged ones.

    The maps are as `analytics_data` has them (docs/reference/collect.md, 3); `goals` are by their names,
    such as `"<view>.0"`. `bot` is driven, crawler or prefetch, None for a person. With `withdrawn` all else
    is forgotten.
    """

    site: str
    session_id: str
    visitor: str
    began_at: datetime
    received_at: datetime
    ids: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    first_touch: Facts | None = None
    last_touch: Facts | None = None
    touches: Mapping[str, Facts] = msgspec.field(default_factory=dict[str, Facts])
    pages: Mapping[str, Facts] = msgspec.field(default_factory=dict[str, Facts])
    seconds: Mapping[str, float] = msgspec.field(default_factory=dict[str, float])
    forms: Mapping[str, Facts] = msgspec.field(default_factory=dict[str, Facts])
    goals: Mapping[str, Facts] = msgspec.field(default_factory=dict[str, Facts])
    bot: str | None = None
    withdrawn: bool = False


def merged(first: Visit, then: Visit) -> Visit:
    """Return what both say of one session; where both have an id or a first touch, those of `first`."""
    return msgspec.structs.replace(
        first,
        began_at=min(first.began_at, then.began_at),
        received_at=max(first.received_at, then.received_at),
        ids={**then.ids, **first.ids},
        first_touch=first.first_touch or then.first_touch,
        last_touch=then.last_touch or first.last_touch,
        touches={**first.touches, **then.touches},
        pages={**first.pages, **then.pages},
        seconds={**first.seconds, **then.seconds},
        forms={**first.forms, **then.forms},
        goals={**first.goals, **then.goals},
        bot=first.bot or then.bot,
        withdrawn=first.withdrawn or then.withdrawn,
    )


def merged_by_session(visits: Sequence[Visit]) -> list[Visit]:
    """Return one visit for each session and visitor, in the order of the sessions' ids."""
    found: dict[tuple[str, str], Visit] = {}
    for visit in visits:
        key = (visit.session_id, visit.visitor)
        known = found.get(key)
        found[key] = visit if known is None else merged(known, visit)
    return [found[key] for key in sorted(found)]


def messenger_code(session_id: str) -> str:
    """Return the short code by which a chat leads back to this session: `ta_0123456789ab`."""
    return "ta_" + re.sub(r"\W", "", session_id, flags=re.ASCII)[:12].lower()


def all_ids(visit: Visit) -> dict[str, str]:
    """Return the key `ids` of a document that has none."""
    own = {"session_id": visit.session_id}
    return own if visit.withdrawn else {**own, "user_id": visit.visitor, **visit.ids}


def visit_part(visit: Visit) -> Facts:
    """Return the key `visit` of a document that has none."""
    if visit.withdrawn:
        return {"version": VERSION, "consent": "withdrawn"}
    told: Facts = {
        "version": VERSION,
        "first_touch": visit.first_touch,
        "last_touch": visit.last_touch,
        "touches": visit.touches,
        "pages": visit.pages,
        "seconds": visit.seconds,
        "forms": visit.forms,
        "bot": visit.bot,
    }
    return {name: value for name, value in told.items() if value is not None}
