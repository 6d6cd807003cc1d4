"""What agents used, summed for their run: every report counts once."""

from __future__ import annotations

from typing import cast

from claude_loop.progress.draft import Draft
from claude_loop.progress.parts import Usage
from claude_loop.progress.reading import count, number

# Sessions of a PRD whose totals are remembered, the latest ones: a session that is resumed later than that counts anew.
KEPT_TOTALS = 200
# A sum of binary fractions has digits that nobody reported.
_DIGITS = 6
_Amounts = dict[str, float | None]


def reported(draft: Draft) -> None:
    """`usage.reported`: amounts to be added, or the totals of a session so far, of which what is new is added."""
    told = _read(draft)
    if draft.data.get("cumulative") is True:
        told = _new_of(draft, told)
    before = cast("_Amounts", draft.run["usage"] or {})
    if any(amount is not None for amount in told.values()):
        after = {key: _sum(before.get(key), amount) for key, amount in told.items()}
        draft.run["usage"] = cast("Usage", after)


def _read(draft: Draft) -> _Amounts:
    data = draft.data
    return {
        "cost_usd": number(data, "cost_usd"),
        "input_tokens": count(data, "input_tokens"),
        "output_tokens": count(data, "output_tokens"),
    }


def _new_of(draft: Draft, told: _Amounts) -> _Amounts:
    """The largest totals hold: what is printed again, or late, adds nothing. A session may go on in a later run."""
    session, used = draft.event.session_id or "", draft.used()
    before: _Amounts = used.get(session) or dict.fromkeys(told)
    new = {key: None if amount is None else max(0, amount - (before[key] or 0)) for key, amount in told.items()}
    latest = {key: _sum(before[key], amount) for key, amount in new.items()}
    others = [(key, each) for key, each in used.items() if key != session]
    draft.put_used(dict([*others[1 - KEPT_TOTALS :], (session, latest)]))
    return new


def _sum(before: float | None, amount: float | None) -> float | None:
    if before is None or amount is None:
        return before if amount is None else amount
    total = before + amount
    return total if type(total) is int else round(total, _DIGITS)
