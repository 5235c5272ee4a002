"""What happened to a conversion, told to a person: one sentence for each entry of its journal."""

from collections.abc import Callable, Mapping

_KINDS: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "matched": lambda told: (
        "found its session late" if told.get("late") else "recorded, and found its session"
    ),
    "unmatched": lambda _: "recorded; no session answers yet, so it waits for one",
    "found": lambda told: "found in the CRM: " + "; ".join(f"{name} {place}" for name, place in told.items()),
    "repeated": lambda _: "told again: nothing changed",
    "stale": lambda told: f"an older word came late ({_money(told)}): it changes nothing",
    "revised": lambda told: f"now {_money(told)}, before {_money(told, '_before')}",
    "moved": lambda told: f"now dated {told.get('occurred_at')}, before {told.get('occurred_at_before')}",
    "cancelled": lambda told: f"counts no longer: the deal is {told.get('reason') or 'cancelled'}",
    "reinstated": lambda _: "counts again: the deal is won again",
    "worthless": lambda told: f"has no value: {told.get('problem')}",
    "erased": lambda _: "what led to the person was erased",
}


def sentence(kind: str, told: Mapping[str, object]) -> str:
    """Return what an entry of the journal says; one of a kind that is not known says its name."""
    texts = {name: str(value) for name, value in told.items()}
    say = _KINDS.get(kind)
    return kind if say is None else say(texts)


def _money(told: Mapping[str, str], suffix: str = "") -> str:
    return f"{told.get(f'value{suffix}')} {told.get(f'currency{suffix}')}"
