"""What a newcomer reads first is true, and the line to paste works as it stands."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from closedloop.config import read_config
from closedloop.edge.cli.greeting import EXAMPLE_SESSION, Greeting
from closedloop.store.database import plain_conninfo
from fix_flow import Tables
from fix_server import MakeServer

pytestmark = pytest.mark.migrated

NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
# An empty variable is none: the server makes a key of its own.
NO_KEY = {"CLOSEDLOOP_WEBHOOK_KEY": ""}


def pasted(line: str) -> int:
    """Return the status that the pasted line is answered with: by bash and curl, else as they would."""
    if shutil.which("bash") and shutil.which("curl"):
        command = f"{line} --silent --noproxy '*' --output /dev/null --write-out '%{{http_code}}'"
        return int(subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout)
    # The shell puts in what the line leaves to it, such as `$(cat …)`.
    echoed = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    words = echoed.decode().split("\0")
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    return httpx.post(words[3], headers=headers, content=body, trust_env=False).status_code


def curl_line(printed: str) -> str:
    """Return the last line that was printed, which is the one to paste."""
    line = printed.splitlines()[-1]
    assert line.startswith("curl ")
    return line


def greeting_on(folder: Path, *, host: str = "127.0.0.1", port: int = 8000, **environment: str) -> Greeting:
    """Return the greeting of a start with this environment."""
    return Greeting(read_config(data_dir=folder, environment=environment), host, port, example=True)


def test_pasted_line_is_answered_with_200_at_every_start(server: MakeServer) -> None:
    """It is the one thing that everybody tries, on the first day and after a restart."""
    one = server(embedded=True, environment=NO_KEY)
    first = curl_line(one.printed())

    assert pasted(first) == 200
    one.restart()
    assert pasted(curl_line(one.printed())) == 200


def test_key_is_printed_at_the_first_start_only(server: MakeServer) -> None:
    """Logs of services are read by many; a key that is printed at every start is in all of them."""
    one = server(environment=NO_KEY)
    first = one.printed()
    key = (one.data_dir / "webhook.key").read_text().strip()
    one.restart()

    again = one.printed().removeprefix(first)

    assert f"Webhook key  {key} " in first
    assert key not in again
    assert "Webhook " in again
    assert key not in one.log()


def test_key_of_the_owner_is_never_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who gave the key knows it."""
    greeting_on(tmp_path, CLOSEDLOOP_WEBHOOK_KEY="owners-own-key").show()

    shown = capsys.readouterr().out
    assert "owners-own-key" not in shown
    assert "X-Webhook-Key: YOUR_KEY" in shown


def test_key_file_that_is_not_used_any_more_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of the first start stays when the owner sets a key, and would be answered with 401."""
    greeting_on(tmp_path)

    greeting_on(tmp_path, CLOSEDLOOP_WEBHOOK_KEY="owners-own-key").show()

    assert "webhook.key" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["it's mine", "two words", "dollar$HOME"])
def test_line_fits_a_folder_of_any_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The folder's name is the owner's business, and the line must read the key in it."""
    folder = tmp_path / name
    greeting_on(folder)
    greeting_on(folder).show()

    script = curl_line(capsys.readouterr().out).replace("curl ", "printf '%s\\n' ", 1)
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False).stdout

    assert f"X-Webhook-Key: {(folder / 'webhook.key').read_text().strip()}" in words.splitlines()


def test_address_of_ipv6_is_in_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without them curl takes the last group for the port."""
    greeting_on(tmp_path, host="::1", port=8001).show()

    assert "Address      http://[::1]:8001\n" in capsys.readouterr().out


def test_example_session_is_put_into_an_empty_table_only(
    tmp_path: Path, database: str, tables: Tables
) -> None:
    """Nobody wants our visitor among their own."""
    greeting = greeting_on(tmp_path)
    tables.add_session("own")
    greeting.make_example(plain_conninfo(database), NOW)
    beside = tables.one("select array_agg(session_id) from public.user_analytics")
    tables.conn.execute("delete from public.user_analytics")

    for _ in range(2):
        greeting.make_example(plain_conninfo(database), NOW)

    assert beside == ["own"]
    assert tables.one("select array_agg(session_id) from public.user_analytics") == [EXAMPLE_SESSION]
