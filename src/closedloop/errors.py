"""Every exception of closedloop, and which of three families it belongs to.

ClosedloopError
├── CallerError            the sender can put it right (400; names the key)
│   ├── MissingIdError     neither session_id nor ym_uid nor another identifier
│   ├── TooLargeError      413
│   ├── UnknownKeyError    401
│   └── UntrustedError     403: a webhook that is forged, of a foreign account, or stale
├── OperatorError          our user must act: what, where, the command that helps
│   ├── ConfigError        one or more mistakes in closedloop.toml or the environment
│   ├── MigrationError     the database's schema is not the one this version needs
│   ├── NotAdoptedError    public.user_analytics is somebody's and was not adopted yet
│   └── CrmRefusedError    a CRM refuses us until its owner acts: rights, plan, token
├── TransientError         again later; `retry_after` in seconds
│   ├── DatabaseAwayError      no connection, restarting, read-only, full, out of connections
│   ├── DatabaseConflictError  two transactions stood in each other's way; at once again
│   ├── BusyError              the queue of the writer is full
│   └── CrmAwayError           a CRM does not answer, or asks for fewer calls
└── DatabaseRefusedError   the database refuses this one row, whoever asks and however often
"""


class ClosedloopError(Exception):
    """The root: whatever is not one of these is a defect of ours."""


class CallerError(ClosedloopError):
    """The sender can put it right; answered with `status` and a sentence that names `key`.

    `key` is spelled as the sender spelled it. `shown` is cut to 80 characters and goes into
    answers and logs: never pass a secret, a phone or an e-mail.
    """

    status = 400

    def __init__(self, key: str, problem: str, *, shown: str = "") -> None:
        self.key = key
        self.problem = problem
        self.shown = shown[:80]
        self.index: int | None = None  # the place in an array of conversions, set by its reader
        super().__init__(f"{key} {problem}" + (f": {self.shown!r}" if shown else ""))


class MissingIdError(CallerError):
    """Nothing in the request says whose visit it was; the contract fixes this sentence."""

    def __init__(self) -> None:
        super().__init__("session_id", "is missing")
        self.args = ("Missing session_id or ym_uid",)


class TooLargeError(CallerError):
    """A body above the route's limit, counted in bytes as received."""

    status = 413


class UnknownKeyError(CallerError):
    """No credential in the request is a key of a site; never shows what was presented."""

    status = 401


class UntrustedError(CallerError):
    """A webhook that is not of the site's own CRM, or is old; `kind` is what it is counted as.

    `kind` is forged, foreign or stale.
    """

    status = 403

    def __init__(self, kind: str, key: str, problem: str, *, shown: str = "") -> None:
        self.kind = kind
        super().__init__(key, problem, shown=shown)


class OperatorError(ClosedloopError):
    """Our user must act; the sentence says what is wrong, where, and which command helps."""


class ConfigError(OperatorError):
    """Mistakes in the configuration, all of them at once, one line each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class MigrationError(OperatorError):
    """The schema `closedloop` in the database does not fit this version."""


class NotAdoptedError(OperatorError):
    """A `public.user_analytics` that is not ours stands there and `closedloop adopt` has not run."""


class CrmRefusedError(OperatorError):
    """A CRM refuses us, and will until its owner acts; the sentence says how."""


class TransientError(ClosedloopError):
    """It may succeed later; `retry_after` is in seconds."""

    def __init__(self, problem: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(problem)


class DatabaseAwayError(TransientError):
    """The database does not take writes now: gone, restarting, read-only, full or out of connections."""


class DatabaseConflictError(TransientError):
    """A deadlock or a serialization failure: nothing was done, and the same may be done again at once."""


class BusyError(TransientError):
    """More conversions wait for the database than we keep in memory."""


class CrmAwayError(TransientError):
    """A CRM that does not answer, answers with an error of its own, or wants fewer calls."""


class DatabaseRefusedError(ClosedloopError):
    """The database refuses this row and would again: a trigger, a check, a value that it cannot hold."""
