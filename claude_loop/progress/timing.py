"""What a run's document keeps about time: the sparkline of its activity and the estimate of its end."""

from __future__ import annotations

from collections.abc import Sequence

from claude_loop.progress.documents import RunDocument

BUCKETS = 24
KEPT_STORY_TIMES = 32
# A range from fewer than three stories would only repeat their accidents.
FEWEST_FOR_ESTIMATE = 3


def record_activity(run: RunDocument, moments: Sequence[int]) -> None:
    """Count events in the buckets of their moments; when the run outgrows its buckets, pair them up."""
    buckets, width, started_at = run["activity"].copy(), run["activity_width_ms"], run["started_at"]
    for moment in moments:
        index = (moment - started_at) // width if moment > started_at else 0
        while index >= BUCKETS:
            buckets = [sum(buckets[i : i + 2]) for i in range(0, len(buckets), 2)]
            width *= 2
            index //= 2
        if index >= len(buckets):
            buckets.extend([0] * (index + 1 - len(buckets)))
        buckets[index] += 1
    run["activity"] = buckets
    run["activity_width_ms"] = width


def record_story_time(run: RunDocument, worked_ms: int) -> None:
    run["story_times_ms"] = [*run["story_times_ms"][1 - KEPT_STORY_TIMES :], worked_ms]


def estimate_end(run: RunDocument, moment: int) -> None:
    """Set ``estimate`` from the lower and the upper quartile of the stories' times; None if nothing can be said."""
    counts, total, times = run["counts"], run["total_stories"], sorted(run["story_times_ms"])
    left = 0 if total is None else total - counts["claimed"] - counts["verified"]
    if run["finished_at"] is not None or left <= 0 or len(times) < FEWEST_FOR_ESTIMATE:
        run["estimate"] = None
        return
    quarter = (len(times) - 1) // 4
    run["estimate"] = {
        "from_at": moment + left * times[quarter],
        "to_at": moment + left * times[-1 - quarter],
        "stories": left,
    }
