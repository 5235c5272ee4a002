"""One line of `doctor`."""

import msgspec

OK, WARN, FAIL = "ok", "warn", "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at; `mend` is empty when there is nothing to mend."""

    check: str
    state: str
    seen: str
    mend: str = ""
