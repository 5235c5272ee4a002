"""GET /check: watches live whether a site's hits, forms and deals arrive, and says what is missing."""

from html import escape
from importlib import resources
from string import Template
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.datastructures import State

from closedloop.edge.http.answers import sentence
from closedloop.edge.http.checkup import Checkup, Words
from closedloop.edge.http.keys import Keyring, presented_keys, refusal
from closedloop.edge.http.recent import Recent
from closedloop.errors import ClosedloopError
from closedloop.stages.process import Process
from closedloop.store.database import borrowed

# Nothing from other hosts, nothing inline.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def language_of(request: Request[Any, Any, Any]) -> str:
    """Return ru or en: as the address says, else the browser."""
    told = str(request.query_params.get("lang") or request.headers.get("accept-language") or "ru")
    return "en" if told.lower().startswith("en") else "ru"


@get("/check", include_in_schema=False)
async def check_page(request: Request[Any, Any, Any], state: State) -> Response[str]:
    """Return the page; it shows nothing before the site's key is typed in."""
    language = language_of(request)
    process: Process = state.process
    host = request.headers.get("host", "HOST")
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    address = f"{scheme}://{host}/{process.config.tracker.script}"
    tag = f'<script async src="{address}" data-site="default"></script>'
    words = {name: escape(said) for name, said in Words("page", language).words.items()}
    page = Template(read("check.html")).substitute(words, language=language, tag=escape(tag))
    return Response(page, media_type="text/html; charset=utf-8", headers=HEADERS)


@get("/check.js", include_in_schema=False)
async def check_script() -> Response[str]:
    """Return the page's script."""
    return Response(read("check.js"), media_type="text/javascript; charset=utf-8", headers=HEADERS)


@get("/check.css", include_in_schema=False)
async def check_style() -> Response[str]:
    """Return the page's style."""
    return Response(read("check.css"), media_type="text/css; charset=utf-8", headers=HEADERS)


@get("/api/v1/check", include_in_schema=False)
async def check_data(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Return the steps of the set-up of the site whose key came: `{"site": "default", "steps": [...]}`."""
    process: Process = state.process
    recent: Recent = state.recent
    headers = dict(request.scope["headers"])
    credentials = presented_keys(headers, b"")
    keyring: Keyring = state.keyring
    site = keyring.site_of(credentials)
    if site is None:
        body = sentence(str(refusal(credentials)))
        return Response(body, status_code=401, media_type="application/json", headers=HEADERS)
    try:
        async with borrowed(process.pool) as conn:
            latest = await process.shape.current().arrivals.latest(conn, site.name)
    except ClosedloopError as error:
        body = sentence(f"The database is away: {error}")
        return Response(
            body, status_code=503, media_type="application/json", headers={**HEADERS, "retry-after": "5"}
        )
    steps = list(Checkup(language_of(request)).steps(latest, recent.of(site.name)))
    body = msgspec.json.encode({"site": site.name, "steps": steps})
    return Response(body, media_type="application/json", headers=HEADERS)


def read(name: str) -> str:
    """Return a file of this page."""
    return (resources.files("closedloop.edge.http") / "pages" / name).read_text(encoding="utf-8")
