"""Real browsers on pages like Tilda's: Chromium by Playwright, WebKit by Selenium, and the site they open."""

import contextlib
import http.server
import json
import os
import platform
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import playwright as playwright_package
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright
from selenium import webdriver
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from fix_tools import REPOSITORY, ToolError, kill_family, wait_until

PAGES = REPOSITORY / "tests" / "recorded" / "tilda" / "pages"
UNPACKED = REPOSITORY / ".tools" / "browsers"
LIBRARIES = f"usr/lib/{platform.machine()}-linux-gnu"
DRIVERS = f"{LIBRARIES}/dri"
CHROMIUM_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
# WebKit and Xvfb have these paths built in.
BUILT_IN = [f"{LIBRARIES}/webkit2gtk-4.1", "usr/share/X11", "usr/bin/xkbcomp"]
NODE = Path(playwright_package.__file__).parent / "driver" / "node"
HELD = "<!-- the rest comes later -->"
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def installed(path: str) -> Path:
    """Return a file of the machine, else the unpacked one. Raises ToolError, never skips."""
    for root in (Path("/"), UNPACKED):
        if (root / path).exists():
            return root / path
    raise ToolError(f"/{path} is not here: run scripts/tools")


def environment_of(program: Path) -> dict[str, str]:
    """Return the environment of a browser; an unpacked one finds its libraries and fonts beside it."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
    if program.is_relative_to(UNPACKED):
        folders = [
            UNPACKED / part for part in (LIBRARIES, LIBRARIES.removeprefix("usr/"), f"{LIBRARIES}/pulseaudio")
        ]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(str(folder) for folder in folders)
        environment["XDG_DATA_HOME"] = str(UNPACKED / "usr/share")
        # What draws comes from the machine where the machine has it, else from beside the browser.
        drawing = {"__EGL_VENDOR_LIBRARY_DIRS": "usr/share/glvnd/egl_vendor.d", "LIBGL_DRIVERS_PATH": DRIVERS}
        environment |= {
            name: str(UNPACKED / part) for name, part in drawing.items() if (UNPACKED / part).exists()
        }
        if not Path("/etc/fonts/fonts.conf").exists():
            environment["FONTCONFIG_PATH"] = str(UNPACKED / "etc/fonts")
    return environment


class Site:
    """A web site on another origin than the collector's.

    Serves the recorded pages with `%TRACKER%` replaced, pages given as text, and, below `/ta/`, whatever the
    collector answers, as a web server of the owner's would. What stands in a page after HELD comes only when
    `rest` is set, as over a slow line.
    """

    def __init__(self, collector: str) -> None:
        self.collector = collector
        self.pages: dict[str, str] = {}
        self.change: Callable[[str], str] = lambda text: text
        self.posted: list[tuple[str, str]] = []
        self.rest = threading.Event()
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (PageHandler,), {"site": self})
        )
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """The site's address."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Stop serving."""
        self.rest.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def page(self, path: str) -> bytes | None:
        """Return what stands at a path, None when nothing does."""
        name = path.partition("?")[0].removeprefix("/")
        text = self.pages.get(name)
        if text is None:
            file = PAGES / name
            if not file.is_file():
                return None
            text = file.read_text()
        return self.change(text).replace("%TRACKER%", self.collector).encode()


class PageHandler(http.server.BaseHTTPRequestHandler):
    """Answers for one site; a subclass of its own has it."""

    site: "Site"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with a page, or with what the collector says."""
        if self.path.startswith("/ta/"):
            self.pass_on(None)
            return
        body = self.site.page(self.path)
        kind = KINDS.get(Path(self.path.partition("?")[0]).suffix, KINDS[".html"])
        self.reply(404 if body is None else 200, {"Content-Type": kind}, body or b"")

    def do_POST(self) -> None:
        """Keep a form that was sent natively, or pass a hit on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/ta/"):
            self.pass_on(body)
            return
        self.site.posted.append((self.path, body.decode()))
        self.reply(200, {"Content-Type": KINDS[".html"]}, b"<h1>Thanks</h1>")

    def pass_on(self, body: bytes | None) -> None:
        """Ask the collector the same and answer with its answer."""
        labels = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        address = f"{self.site.collector}/{self.path.removeprefix('/ta/')}"
        request = urllib.request.Request(address, data=body, headers=labels, method=self.command)  # noqa: S310 - loopback
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - loopback
            self.reply(answer.status, dict(answer.headers), answer.read())

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "connection", "date", "server"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        head, held, rest = body.partition(HELD.encode())
        with contextlib.suppress(ConnectionError):
            self.wfile.write(head)
            if held:
                self.site.rest.wait()
            self.wfile.write(held + rest)


@pytest.fixture
def site(hook: Any) -> Iterator[Site]:  # noqa: ANN401 - fix_server.Server
    """Give a site whose pages send to this file's server."""
    made = Site(hook.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def playwright(scratch: Path) -> Iterator[Playwright]:
    """Give Playwright, once for the file: while it runs, no other test of the worker can run a loop."""
    program = installed("usr/lib/chromium/chromium")
    libraries = environment_of(program).get("LD_LIBRARY_PATH")
    with pytest.MonkeyPatch.context() as patch:
        if libraries is not None:
            # The Node that comes with Playwright wants a library that a bare Debian has not.
            wrapper = scratch / "node"
            wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {NODE} "$@"\n')
            wrapper.chmod(0o755)
            patch.setenv("PLAYWRIGHT_NODEJS_PATH", str(wrapper))
        with sync_playwright() as started:
            yield started


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Give Chromium, once for the file."""
    program = installed("usr/lib/chromium/chromium")
    browser = playwright.chromium.launch(
        executable_path=program,
        args=CHROMIUM_ARGUMENTS,
        ignore_default_args=["--disable-back-forward-cache"],
        env={**environment_of(program), "HOME": str(UNPACKED)},
    )
    yield browser
    browser.close()


class Tab:
    """One page in a context, with everything that went wrong in it."""

    def __init__(self, context: BrowserContext, **configuration: Mapping[str, object]) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        for name, value in configuration.items():
            self.page.add_init_script(f"window.__{name}Config = {json.dumps(value)};")

    def run(self, script: str, argument: object = None) -> Any:  # noqa: ANN401 - whatever the page says
        """Return what a script in the page gives."""
        return self.page.evaluate(script, argument)

    @property
    def session_id(self) -> str:
        """The tab's session, as the page keeps it."""
        told: str = self.run("sessionStorage.getItem('ta_session_id')")
        return told

    def submit(self, form: int = 0) -> None:
        """Fill in the required fields of one form and press its button, as a visitor does."""
        self.run(SUBMIT, form)

    def sent(self) -> list[dict[str, str]]:
        """Return what Tilda really sent, field by field, for each sending."""
        told: list[dict[str, str]] = self.run("__tilda.sent.map(one => Object.fromEntries(one.pairs))")
        return told

    def wait(self, condition: str) -> None:
        """Return as soon as an expression holds in the page."""
        self.page.wait_for_function(condition, timeout=15_000)


SUBMIT = """index => {
    const form = document.querySelectorAll('form.js-form-proccess')[index];
    form.querySelectorAll('[data-tilda-req]').forEach(field => { field.value = '+79001234567'; });
    form.querySelector('[type=submit]').click();
}"""


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Callable[..., Tab]]:
    """Open tabs: of a new visitor, or of the visitor of another tab with `beside`."""
    with contextlib.ExitStack() as cleanup:

        def open_tab(*, beside: Tab | None = None, **configuration: Mapping[str, object]) -> Tab:
            if beside is not None:
                return Tab(beside.context, **configuration)
            context = chromium.new_context()
            cleanup.callback(context.close)
            return Tab(context, **configuration)

        yield open_tab


def mortal(*command: str) -> list[str]:
    """Return `command` so that it is killed when what starts it is gone; proot passes nothing on."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


def proot(program: Path) -> list[str]:
    """Return the command for a program with paths built in: the unpacked files appear in these places."""
    if not program.is_relative_to(UNPACKED):
        return mortal(str(program))
    bound = [part for part in BUILT_IN if (UNPACKED / part).exists()]
    places = [argument for part in bound for argument in ("-b", f"{UNPACKED / part}:/{part}")]
    return mortal(str(installed("usr/bin/proot")), *places, *mortal(str(program)))


@contextlib.contextmanager
def screen() -> Generator[str]:
    """Give the name of a display that nobody sees."""
    program = installed("usr/bin/Xvfb")
    reading, writing = os.pipe()
    command = [*proot(program), "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    process = subprocess.Popen(
        command,
        pass_fds=[writing],
        env=environment_of(program),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.readline().strip()
    try:
        yield f":{number}"
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a program below proot, which passes no signal on, and takes its bindings back when all is over."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.terminate()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        kill_family(process)


@pytest.fixture(scope="session")
def webkit(scratch: Path) -> Iterator[webdriver.WebKitGTK]:
    """Give WebKit, Safari's engine, once for the worker; a new site is a new origin with empty storage."""
    program = installed("usr/bin/WebKitWebDriver")
    with screen() as display:
        environment = {
            **environment_of(program),
            "DISPLAY": display,
            "HOME": str(scratch),
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "WEBKIT_DISABLE_COMPOSITING_MODE": "1",
            "GDK_BACKEND": "x11",
            "GSETTINGS_BACKEND": "memory",
        }
        # The driver is asked for as one file.
        wrapper = scratch / "webkit-driver"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(proot(program))} "$@"\n')
        wrapper.chmod(0o755)
        options = Options()
        options.binary_location = f"/{LIBRARIES}/webkit2gtk-4.1/MiniBrowser"
        options.add_argument("--automation")
        service = Service(str(wrapper), env=environment)
        driver = webdriver.WebKitGTK(options=options, service=service)
        yield driver
        webdriver.Remote.quit(driver)
        end(cast("subprocess.Popen[bytes]", service.process))  # pyright: ignore[reportUnknownMemberType]
        service.stop()


def holds(driver: webdriver.WebKitGTK, script: str) -> None:
    """Return as soon as an expression holds in WebKit's page."""
    wait_until(lambda: bool(ask(driver, script)), what=script, wait_s=20)


def ask(driver: webdriver.WebKitGTK, script: str) -> Any:  # noqa: ANN401 - whatever the page says
    """Return the value of an expression in WebKit's page."""
    return driver.execute_script(f"return {script}")  # pyright: ignore[reportUnknownMemberType]
