"""What a person reads when the server has started: address, key (once), and a line that can be pasted."""

import shlex
import sys
from datetime import datetime

import psycopg

from closedloop import __version__
from closedloop.edge.http.hook import PATH
from closedloop.settings import Config

EXAMPLE_SESSION = "try-me"

_EXAMPLE = """
    insert into public.user_analytics (site, session_id, "timestamp", analytics_data)
    select 'default', %(session_id)s, %(now)s, '{"ids": {"ym_uid": "1712345678901234567"}}'
     where not exists (select from public.user_analytics)
"""


class Greeting:
    """The lines on standard output; `example` puts a session into a new database for the pasted line."""

    def __init__(self, config: Config, host: str, port: int, *, example: bool) -> None:
        self.config = config
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.example = example

    def make_example(self, conninfo: str, now: datetime) -> None:
        """Put one session into a database that was made just now, so that the first webhook finds it."""
        if self.example:
            with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as conn:
                conn.execute(_EXAMPLE, {"session_id": EXAMPLE_SESSION, "now": now})

    def show(self) -> None:
        """Print the greeting."""
        key = self.config.new_webhook_key
        place = self.config.data_dir / "webhook.key"
        shown = "YOUR_KEY"
        if place.exists() and place.read_text().strip() in self.config.sites["default"].webhook_keys:
            shown = key or f"$(cat {shlex.quote(str(place))})"
        lines = [
            f"closedloop {__version__}",
            f"Address      {self.address}",
            f"Webhook      {self.address}{PATH}",
        ]
        if key is not None:
            lines.append(f"Webhook key  {key}   (shown this once; kept in {place})")
        body = (
            f'{{"session_id": "{EXAMPLE_SESSION}", "goal_name": "payment_success", '
            '"goal_value": 5000, "deal_id": "1"}'
        )
        curl = (
            f"curl -X POST '{self.address}{PATH}' -H \"X-Webhook-Key: {shown}\" "
            f"-H 'Content-Type: application/json' -d '{body}'"
        )
        lines += ["Try it:", curl]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
