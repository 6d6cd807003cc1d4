"""Which stories depend on each other in a circle, in linear time: a plan is anybody's text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

Edges = Mapping[str, Iterable[str]]


def circles(needs: Edges) -> dict[str, str]:
    """By story, a name of its circle: two have the same exactly when each needs the other, directly or not.

    One after the other as they can be done, then each with those that need it (Kosaraju's algorithm). The names follow
    from the order of ``needs`` alone, so that a rebuild gives the same.
    """
    seen: set[str] = set()
    order = [story for root in needs for story in _reach(root, needs, seen)]
    needed_by: dict[str, list[str]] = {}
    for story, others in needs.items():
        for other in others:
            needed_by.setdefault(other, []).append(story)
    seen.clear()
    return {story: root for root in reversed(order) for story in _reach(root, needed_by, seen)}


def _reach(root: str, edges: Edges, seen: set[str]) -> Iterator[str]:
    """What is reached from ``root`` and was not seen, each after all that it leads to."""
    if root in seen:
        return
    seen.add(root)
    path = [(root, iter(edges.get(root, ())))]
    while path:
        story, rest = path[-1]
        following = next((other for other in rest if other not in seen), None)
        if following is None:
            path.pop()
            yield story
        else:
            seen.add(following)
            path.append((following, iter(edges.get(following, ()))))
