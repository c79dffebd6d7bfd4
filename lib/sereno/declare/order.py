"""`after=`: whether the jobs that others come after exist, and come in an order that can be kept. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sereno.errors import InvalidJob


def check_order(
    after: Mapping[str, Collection[str]], checked: Collection[str], known: Collection[str]
) -> None:
    """Check what the jobs `checked` come after: `InvalidJob` for an id that no job has (`only_if_success` would leave
    out every run), or a circle.

    Args:
        after: ids of the jobs that a job comes after, for every job on the machine that has some.
        known: the ids of all jobs that are or will be installed on the machine, of any application.
    """
    for job_id in sorted(checked):
        for other in after.get(job_id, ()):
            if other not in known:
                raise InvalidJob(
                    f"after: the job {job_id!r} comes after {other!r}, and no job of that id is registered"
                    " or installed",
                    hint="register it before start(), or install its application first",
                )
        circle = _circle(job_id, after)
        if circle:
            raise InvalidJob(
                f"after: {' after '.join(map(repr, circle))} is a circle",
                hint="leave one of them away",
            )


def dependents(after: Mapping[str, Collection[str]], job_ids: Collection[str]) -> set[str]:
    """The jobs that come after one of `job_ids`, or after one that does, and so on."""
    found: set[str] = set()
    while more := {
        job_id
        for job_id, others in after.items()
        if job_id not in found and not found.union(job_ids).isdisjoint(others)
    }:
        found |= more
    return found.difference(job_ids)


def _circle(start: str, after: Mapping[str, Collection[str]]) -> list[str]:
    """A way from `start` back to itself, or nothing."""
    ways, seen = [[start]], set()
    while ways:
        way = ways.pop()
        for other in after.get(way[-1], ()):
            if other == start:
                return [*way, start]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []
