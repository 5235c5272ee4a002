"""A fake Yandex Metrica: counters, tokens, both uploads over real HTTP, with limits and a clock of its own.

Source: docs/protocols/destinations/yandex-metrica.md, 11 and what it refers to.
"""

import json
import re
import threading
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Unpack

from platforms.clocks import Clock, Window
from platforms.faults import Answer, Work
from platforms.forms import as_text
from platforms.http import Platform, Request
from platforms.metrica_conversions import Conversions
from platforms.metrica_data import ApiError, Counter, Known, Permission, Visit
from platforms.metrica_orders import Order, Orders
from platforms.uploaded import read_parts

CALLS_PER_SECOND = 30
CALLS_AT_ONCE = 3
CALLS_PER_DAY = 5000
MAX_LISTED = 10_000
PATH = re.compile(r"/(management|cdp/api)/v1/counter/([0-9]{1,12})((?:/[a-z_]+)*)(?:/([0-9]+))?/?")
OWNER = "owner"

Handler = Callable[[Counter, Request], object]


@dataclass
class Token:
    """Whom a token lets act."""

    login: str
    is_expired: bool = False


class Metrica(Platform):
    """All of Metrica: tests add counters, tokens and visits, and move the clock; the rest happens by itself.

    `clock` stands until `pass_time`. `window` is the limit of calls a second, whose watch may be made faster.
    `too_many` is the status of a refusal by a quota: 429, or 420 as one page says. `spent` counts the calls
    of a login on a day. `conversions` and `orders` have what was uploaded.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.conversions = Conversions(self.clock)
        self.orders = Orders(self.clock)
        self.counters: dict[int, Counter] = {}
        self.tokens: dict[str, Token] = {}
        self.window = Window(CALLS_PER_SECOND)
        self.too_many = 429
        self.spent: Tally[tuple[str, str]] = Tally()
        self.under_way: Tally[str] = Tally()
        self.counting = threading.Lock()
        self.routes: dict[tuple[str, str, str], tuple[Handler, bool]] = {
            ("GET", "management", ""): (self.get_counter, False),
            ("POST", "management", "/offline_conversions/upload"): (self.upload_conversions, True),
            ("GET", "management", "/offline_conversions/uploadings"): (self.list_conversions, True),
            ("GET", "management", "/offline_conversions/uploading"): (self.get_conversions, True),
            ("POST", "cdp/api", "/data/simple_orders"): (self.upload_orders, True),
            ("GET", "cdp/api", "/last_uploadings"): (self.list_orders, True),
        }
        super().__init__()

    # What a test does as people do.

    def add_counter(self, *goals: str, zone: str = "Europe/Moscow") -> Counter:
        """Make a counter of OWNER with these goals of the type JavaScript event."""
        made = Counter(12_345_678 + len(self.counters), list(goals), zone, rights={OWNER: "own"})
        self.counters[made.id] = made
        return made

    def issue(self, login: str = OWNER) -> str:
        """Give out a token of a login."""
        token = f"y0_demo_{len(self.tokens)}"
        self.tokens[token] = Token(login)
        return token

    def expire(self, token: str) -> None:
        """Let a token expire now."""
        self.tokens[token].is_expired = True

    def let(self, login: str, counter: Counter, permission: Permission) -> None:
        """Give a login a right on a counter."""
        counter.rights[login] = permission

    def add_visit(self, counter: Counter, client_id: str, ago: timedelta, **known: Unpack[Known]) -> Visit:
        """Add a visit that began some time ago."""
        made = Visit(client_id, self.clock.now - ago, **known)
        counter.visits.append(made)
        return made

    def order(self, counter: Counter, order_id: str) -> Order:
        """Return an order as it stands."""
        return self.orders.of(counter)[order_id]

    def pass_time(self, span: timedelta) -> None:
        """Move the clock on; what is due by then has happened, each thing at its own moment."""
        with self.lock:
            self.clock.forward(span)
            self.conversions.work()
            self.orders.work()

    def time_out(self, part: str = "upload", times: int | None = 1) -> None:
        """Let calls be worked on and end with 504 all the same."""
        late = ApiError(504, "timeout")

        def trouble(work: Work) -> Answer:
            work()
            return Answer(late.status, json.dumps(late.body).encode())

        self.faults.order(trouble, part, times)

    # What it answers.

    def handle(self, request: Request) -> Answer | None:
        """Answer, counting what is under way for each login meanwhile."""
        login = self.login_of(request)
        with self.counting:
            self.under_way[login] += 1
        try:
            return super().handle(request)
        finally:
            with self.counting:
                self.under_way[login] -= 1

    def answer(self, request: Request) -> Answer:
        """Answer one call."""
        try:
            self.check_rate(request)
            told = self.work_on(request)
        except ApiError as refusal:
            self.refused[refusal.kind] += 1
            return Answer(refusal.status, json.dumps(refusal.body).encode())
        return Answer(200, json.dumps(told).encode())

    def work_on(self, request: Request) -> object:
        """Return what a call gives. Raises ApiError."""
        login = self.login_of(request)
        if not login:
            raise ApiError(403, "invalid_token", "Invalid oauth_token")
        self.check_quota(login)
        path = PATH.fullmatch(request.path)
        if path is None:
            raise ApiError(404, "not_found", "path")
        route = self.routes.get((request.method, path[1], path[3]))
        counter = self.counters.get(int(path[2]))
        if route is None or counter is None or (path[4] is not None) != path[3].endswith("/uploading"):
            raise ApiError(404, "not_found", "Entity not found")
        handler, writes = route
        self.check_right(login, counter, writes=writes)
        return handler(counter, request)

    def login_of(self, request: Request) -> str:
        """Return whose token a call has, empty for none that is good."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self.tokens.get(text) if scheme == "OAuth" else None
        return "" if token is None or token.is_expired else token.login

    def check_rate(self, request: Request) -> None:
        """Raise ApiError for a caller that is too fast, or does too much at once."""
        if not self.window.let_in():
            raise ApiError(self.too_many, "quota_requests_by_ip", "Quota exceeded")
        login = self.login_of(request)
        if login and self.under_way[login] > CALLS_AT_ONCE:
            raise ApiError(self.too_many, "quota_parallel_requests", "Quota exceeded")

    def check_quota(self, login: str) -> None:
        """Raise ApiError for a login that has used up its day, which ends at midnight in Greenwich."""
        day = login, f"{self.clock.now:%Y-%m-%d}"
        self.spent[day] += 1
        if self.spent[day] > CALLS_PER_DAY:
            raise ApiError(self.too_many, "quota_requests_by_uid", "Quota exceeded")

    def check_right(self, login: str, counter: Counter, *, writes: bool) -> None:
        """Raise ApiError for a login that may not do this to a counter."""
        if counter.is_in_connect:
            raise ApiError(403, "counter_in_connect")
        permission = counter.rights.get(login)
        if permission is None or (writes and permission == "view"):
            raise ApiError(403, "access_denied", "Access is denied")

    def get_counter(self, counter: Counter, request: Request) -> object:
        """Return one counter, with its goals if they are asked for."""
        extra = as_text(request.query.get("field")).split(",")
        return {"counter": counter.body(self.login_of(request), extra)}

    def upload_conversions(self, counter: Counter, request: Request) -> object:
        """Take a file of offline conversions."""
        comment = as_text(request.query.get("comment"))
        made = self.conversions.upload(counter, file_of(request), comment)
        return {"uploading": self.conversions.body(made)}

    def get_conversions(self, counter: Counter, request: Request) -> object:
        """Return one upload."""
        found = self.conversions.find(counter, request.path.rpartition("/")[2])
        return {"uploading": self.conversions.body(found)}

    def list_conversions(self, counter: Counter, request: Request) -> object:
        """Return the uploads, newest first."""
        told = [as_text(request.query.get(name)) for name in ("limit", "offset")]
        if not all(re.fullmatch(r"[0-9]{0,5}", one) for one in told):
            raise ApiError(400, "invalid_parameter", "limit, offset")
        limit, offset = int(told[0] or 1000), int(told[1] or 0)
        if limit > MAX_LISTED:
            raise ApiError(400, "invalid_parameter", "limit")
        found = self.conversions.of(counter)[offset : offset + limit]
        return {"uploadings": [self.conversions.body(one) for one in found]}

    def upload_orders(self, counter: Counter, request: Request) -> object:
        """Take a file of orders."""
        told = {name: as_text(request.query.get(name)) for name in ("merge_mode", "delimiter_type")}
        made = self.orders.upload(counter, file_of(request), told["merge_mode"], told["delimiter_type"])
        return {"uploading": self.orders.body(made)}

    def list_orders(self, counter: Counter, request: Request) -> object:
        """Return the latest uploads of orders, newest first, those before a moment if one is given."""
        told = {name: as_text(request.query.get(name)) for name in ("limit", "datetime_offset", "source")}
        before = moment_of(told["datetime_offset"])
        return {"uploadings": self.orders.latest(counter, told["limit"] or "10", before, told["source"])}


def moment_of(text: str) -> datetime | None:
    """Return the moment of a parameter, None when it is left out. Raises ApiError for another text."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError as error:
        raise ApiError(400, "invalid_parameter", "datetime_offset") from error
    return None if found is None else found.replace(tzinfo=found.tzinfo or UTC)


def file_of(request: Request) -> bytes:
    """Return the file in a form. Raises ApiError when there is none under the right name."""
    try:
        parts = read_parts(request.headers.get("content-type", ""), request.body)
    except ValueError as error:
        raise ApiError(400, "invalid_uploading", str(error)) from error
    for part in parts:
        if part.name == "file" and (part.filename or "").endswith(".csv"):
            return part.content
    raise ApiError(400, "missing_parameter", "file")
