"""Where a deal came from, in the few words that a manager reads in the CRM."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

_MAX = 250
_RULES = {
    "session_id": "found by the session of the form",
    "ym_uid": "found by Metrica's ClientID",
    "ym_uid_rounded": "found by a rounded ClientID",
    "ta_code": "found by the code of a messenger link",
    "phone": "found by the phone",
    "email": "found by the e-mail",
}
_CLICKS = {"yclid": "yandex", "gclid": "google", "gbraid": "google", "wbraid": "google", "fbclid": "facebook"}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What is written into the fields of a deal; empty texts for what is not known."""

    source: str
    campaign: str
    match: str


def origin_of(document: object, rule: str | None) -> Origin:
    """Return where the visitor of a session came from; `document` is its analytics_data, `rule` of the match.

    The first visit from outside counts in which the owner's marks stand, else the page that linked here.
    None as `rule` means that the deal has no session.
    """
    if rule is None:
        return Origin(source="", campaign="", match="no session found")
    touches = [_part(_part(document, "visit"), name) for name in ("first_touch", "last_touch")]
    told = [_part(touch, "marks") for touch in touches]
    marks = next(filter(None, told), told[0])
    ids = _part(document, "ids")
    clicked = next((source for name, source in _CLICKS.items() if ids.get(name)), "")
    referrer = next((host for touch in touches if (host := _host(touch.get("referrer")))), "")
    source = _text(marks.get("utm_source")) or clicked or referrer or "direct"
    medium = _text(marks.get("utm_medium")) or ("cpc" if clicked else "")
    return Origin(
        source=" / ".join(filter(None, (source, medium)))[:_MAX],
        campaign=_text(marks.get("utm_campaign"))[:_MAX],
        match=_RULES.get(rule, f"found by {rule}"),
    )


def _part(holder: object, name: str) -> Mapping[str, Any]:
    found = cast("Mapping[str, Any]", holder).get(name) if isinstance(holder, Mapping) else None
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _host(address: object) -> str:
    try:
        return urlsplit(_text(address)).hostname or ""
    except ValueError:
        return ""
