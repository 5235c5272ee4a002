"""The story that `closedloop demo` plays over real HTTP, told in plain words as it happens."""

import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from http.client import HTTPException
from typing import Any

import msgspec
from psycopg import Connection
from rich.console import Console
from rich.markup import escape

from closedloop.edge.cli.demo_rows import Cast, Story, count_webhooks
from closedloop.edge.cli.demo_server import Answer, OwnServer
from closedloop.edge.http.hook import PATH
from closedloop.stages import clock

# Three times the promise: a late match that misses it is shown with its time.
PATIENCE_S = 15.0
LOOK_S = 0.02

_VISIT = """
    insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
    values ('default', %(session_id)s, %(at)s, %(document)s)
"""

_IS_SHOWN = """
    select analytics_data -> 'target_actions' -> 'yandex_goals_triggered' is not null
      from public.user_analytics
     where site = 'default' and session_id = %(session_id)s
"""


class Storyteller:
    """Plays the steps one after the other and keeps what happened in `story`."""

    def __init__(self, server: OwnServer, conn: Connection[Any], console: Console, cast: Cast) -> None:
        self.server = server
        self.conn = conn
        self.console = console
        self.cast = cast
        self.story = Story(webhooks_before=count_webhooks(conn))
        self.steps = 0

    def play(self) -> Story:
        """Play the whole story; an answer that is wrong is found by the checks, not here."""
        self.visit_and_form()
        self.deal_won()
        self.told_again()
        self.sum_changed()
        self.two_at_once()
        self.late_session()
        self.stranger()
        return self.story

    def visit_and_form(self) -> None:
        """Let a visitor come from an advertisement and send a form."""
        self.step("A visitor comes from Yandex Direct")
        self.say("The tracking script gives the visit a session and writes down where it came from.")
        self.say(
            "[dim](What receives its data is not built yet, so the demo inserts the row itself, with SQL.)[/]"
        )
        self.insert_visit(
            self.cast.buyer,
            timedelta(days=3),
            {
                "ids": {
                    "session_id": self.cast.buyer,
                    "ym_uid": "1712345678901234567",
                    "yclid": "4242424242",
                },
                "utm": {"utm_source": "yandex", "utm_medium": "cpc", "utm_campaign": "autumn"},
            },
        )
        self.step("The visitor sends a form, and the CRM gets the session with it")
        self.say("The form's hidden field goes into the deal like the name and the phone:")
        self.say(f"[cyan]session_id = {self.cast.buyer}[/]   in the deal {self.cast.deal(1)}")

    def deal_won(self) -> None:
        """Let the CRM tell of the won deal."""
        self.step("Three days later the deal is won: the CRM sends its webhook")
        self.send("won", self.payment(5000))
        self.say("The answer came after the commit: the goal is in the session, durably.")

    def told_again(self) -> None:
        """Let the CRM repeat itself."""
        self.step("The CRM sends the same webhook again, as CRMs do after a lost answer")
        self.send("again", self.payment(5000))
        self.say("The same answer, and nothing is counted twice.")

    def sum_changed(self) -> None:
        """Let the sum of the deal change."""
        self.step("The sum of the deal changes from 5000 to 7500")
        self.send("revised", self.payment(7500))
        self.say("A revision: still one goal, with the new sum.")

    def two_at_once(self) -> None:
        """Send two webhooks for one session at the same instant."""
        self.step("Two webhooks for one session at the same instant")
        self.insert_visit(self.cast.regular, timedelta(hours=5), {"ids": {"session_id": self.cast.regular}})
        bodies = {
            2: self.body(self.cast.regular, "payment_success", 2000, 2),
            3: self.body(self.cast.regular, "delivery_paid", 300, 3),
        }
        together = threading.Barrier(len(bodies))
        threads = [
            threading.Thread(target=self.send_together, args=(together, f"at once {number}", body))
            for number, body in bodies.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, body in bodies.items():
            self.show(body, self.story.answers[f"at once {number}"])
        self.say(
            "Whoever reads the list, adds to it and writes it back loses one of them. Here both are there."
        )

    def late_session(self) -> None:
        """Send a webhook whose session comes afterwards."""
        self.step("A webhook for a session that nobody knows")
        self.send("unknown", self.body(self.cast.late, "payment_success", 990, 4))
        self.say("The CRM is told the truth; the conversion is kept and waits.")
        self.say("Now its session arrives, inserted straight into the table, as your own script would do it…")
        self.insert_visit(self.cast.late, timedelta(), {"ids": {"session_id": self.cast.late}})
        self.story.late_s = self.wait_for_goal(self.cast.late)
        if self.story.late_s is None:
            self.say(f"[red]not matched within {PATIENCE_S:.0f} s[/]")
        else:
            self.say(f"[green]matched by itself after {self.story.late_s:.1f} s[/]")

    def stranger(self) -> None:
        """Send a webhook with a wrong key."""
        self.step("Somebody sends a webhook with a wrong key")
        self.send("wrong key", self.body(self.cast.buyer, "payment_success", 1_000_000, 5), key="not-the-key")
        self.say("Nothing of it is stored.")

    def insert_visit(self, session_id: str, ago: timedelta, document: Mapping[str, Any]) -> None:
        """Write a session's row as a tracker would, and remember its document."""
        written = msgspec.json.encode(document).decode()
        self.conn.execute(_VISIT, {"session_id": session_id, "at": clock.now() - ago, "document": written})
        self.story.documents[session_id] = dict(document)
        self.say(f"[cyan]{session_id}[/]   {escape(written)}")

    def wait_for_goal(self, session_id: str) -> float | None:
        """Return after how many seconds the session shows a goal, None when it never does."""
        started = clock.elapsed()
        while clock.elapsed() - started < PATIENCE_S:
            found = self.conn.execute(_IS_SHOWN, {"session_id": session_id}).fetchone()
            if found is not None and found[0]:
                return clock.elapsed() - started
            time.sleep(LOOK_S)
        return None

    def payment(self, value: int) -> dict[str, object]:
        """Return the webhook of the buyer's deal."""
        return self.body(self.cast.buyer, "payment_success", value, 1)

    def body(self, session_id: str, goal: str, value: int, deal: int) -> dict[str, object]:
        """Return the body of a webhook."""
        return {
            "session_id": session_id,
            "goal_name": goal,
            "goal_value": value,
            "currency": "RUB",
            "deal_id": self.cast.deal(deal),
        }

    def send(self, name: str, body: Mapping[str, object], *, key: str = "") -> None:
        """Send one webhook, keep its answer under `name` and show both."""
        answer = self.post(body, key or self.server.key)
        self.story.answers[name] = answer
        self.show(body, answer)

    def send_together(self, together: threading.Barrier, name: str, body: Mapping[str, object]) -> None:
        """Send one webhook as soon as everybody is ready to."""
        key = self.server.key
        together.wait()
        self.story.answers[name] = self.post(body, key)

    def post(self, body: Mapping[str, object], key: str) -> Answer:
        """Return the answer to one webhook; a lost one has the status 0."""
        try:
            return self.server.request(
                "POST", PATH, msgspec.json.encode(body), x_webhook_key=key, content_type="application/json"
            )
        except (OSError, HTTPException) as error:
            return Answer(0, f"no answer: {error}")

    def show(self, body: Mapping[str, object], answer: Answer) -> None:
        """Show a webhook and its answer."""
        self.say(f"→ POST {PATH}  {escape(msgspec.json.encode(body).decode())}")
        colour = "green" if answer.status == 200 else "yellow"  # noqa: PLR2004 - HTTP
        self.say(f"← [{colour}]{answer.status}[/]  {escape(answer.body)}")

    def step(self, heading: str) -> None:
        """Begin a step."""
        self.steps += 1
        self.console.print(f"\n[bold]{self.steps}. {escape(heading)}[/]", highlight=False)

    def say(self, text: str) -> None:
        """Say one thing that happens; it is never cut or wrapped, so that it can be copied."""
        self.console.print(f"   {text}", highlight=False, soft_wrap=True)
