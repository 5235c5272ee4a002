"""Where a deal came from, in the few words that a manager reads in the CRM."""

from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

Part = Mapping[str, Any]

_MAX = 250
_NOTHING: Part = {}
_RULES = {
    "session_id": "found by the session of the form",
    "ym_uid": "found by Metrica's ClientID",
    "ym_uid_rounded": "found by a rounded ClientID",
    "ta_code": "found by the code of a messenger link",
    "phone": "found by the phone",
    "email": "found by the e-mail",
}
_CLICKS = {
    "yclid": "yandex",
    "gclid": "google",
    "gbraid": "google",
    "wbraid": "google",
    "fbclid": "facebook",
    "ttclid": "tiktok",
    "msclkid": "bing",
    "vkclid": "vk",
    "rb_clickid": "vk",
}
# Places in the array `traffic` of a predecessor's document (docs/protocols/tilda.md, 10).
_MARKS = {"utm_source": 0, "utm_medium": 1, "utm_campaign": 2, "yclid": 5}
_REFERRER = 6


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What is written into the fields of a deal; empty texts for what is not known."""

    source: str
    campaign: str
    match: str


def origin_of(document: object, rule: str | None) -> Origin:
    """Return where the visitor of a session came from; `document` is its analytics_data, `rule` of the match.

    The first visit from outside counts in which marks of the owner stand, then a click id of the session,
    then the page that linked here. None as `rule` means that the deal has no session. The source is empty
    when the document says nothing of a visit: nobody watched, or the visitor has forbidden it.
    Source: docs/reference/collect.md, 3; docs/protocols/tilda.md, 10.
    """
    if rule is None:
        return Origin(source="", campaign="", match="no session found")
    touches = list(_touches(document))
    marks = next((found for touch in touches if (found := _part(touch, "marks"))), _NOTHING)
    ids = _part(document, "ids")
    clicked = next((source for name, source in _CLICKS.items() if marks.get(name) or ids.get(name)), "")
    referrer = next((host for touch in touches if (host := _host(touch.get("referrer")))), "")
    source = _text(marks.get("utm_source")) or clicked or referrer or ("direct" if touches else "")
    medium = _text(marks.get("utm_medium")) or ("cpc" if clicked else "")
    return Origin(
        source=" / ".join(filter(None, (source, medium)))[:_MAX],
        campaign=_text(marks.get("utm_campaign"))[:_MAX],
        match=_RULES.get(rule, f"found by {rule}"),
    )


def _touches(document: object) -> Iterator[Part]:
    """Yield the visits from outside that a document knows, the first one first."""
    visit = _part(document, "visit")
    for name in ("first_touch", "last_touch"):
        if touch := _part(visit, name):
            yield touch
    traffic = cast("Part", document).get("traffic") if isinstance(document, Mapping) else None
    if isinstance(traffic, list):
        told = dict(enumerate(cast("list[object]", traffic)))
        marks = {name: text for name, place in _MARKS.items() if (text := _text(told.get(place)))}
        yield {"marks": marks, "referrer": _text(told.get(_REFERRER))}


def _part(holder: object, name: str) -> Part:
    found = cast("Part", holder).get(name) if isinstance(holder, Mapping) else None
    return cast("Part", found) if isinstance(found, Mapping) else _NOTHING


def _text(value: object) -> str:
    """Return a text in one line, without the characters that a CRM would refuse."""
    return " ".join("".join(filter(_is_shown, value)).split()) if isinstance(value, str) else ""


def _is_shown(character: str) -> bool:
    return character.isprintable() or character.isspace()


def _host(address: object) -> str:
    try:
        return (urlsplit(_text(address)).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
