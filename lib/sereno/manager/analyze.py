"""When calendar expressions elapse, as systemd itself computes it: systemd-analyze(1), `calendar`.

Needs the program, but neither root nor a running systemd. One call takes about 10 ms.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from datetime import datetime

from sereno.errors import NotAvailable, SystemdError
from sereno.manager.systemctl import asked

PROGRAM = "systemd-analyze"
_TIMEOUT_S = 30
# "Next elapse:" and "Iter. #2:" (252; "Iteration #2:" from 257) are in the machine's zone; where that is not UTC, a
# line "(in UTC):" follows each.
_IN_UTC = re.compile(
    r"^ *(?:Next elapse|Iter(?:\.|ation) #\d+|\(in UTC\)): \w+ (\d+-\d+-\d+ \d+:\d+:\d+)(?:\.\d+)? UTC$",
    re.MULTILINE,
)


def next_elapses(
    calendars: Iterable[str], count: int, *, after_s: float | None = None
) -> list[datetime]:
    """The next `count` elapses of a timer with all of these calendar expressions, fewer if there are no more.

    Args:
        calendars: values of `OnCalendar=`.
        after_s: seconds since the epoch after which to begin; default: now.

    Returns:
        Aware times in UTC, ascending, to the second.

    Raises:
        NotAvailable: there is no systemd-analyze.
        SystemdError: it does not take an expression; the message has its words.
    """
    base = [] if after_s is None else [f"--base-time=@{after_s:.6f}"]
    text = _ask("calendar", f"--iterations={count}", *base, "--", *calendars)
    return _times_in(text)[:count]


def elapses_of_each(
    calendars: Iterable[str], count: int, *, after_s: float
) -> dict[str, list[datetime]]:
    """Like `next_elapses`, but of each expression by itself, in one call for all of them.

    Returns:
        The elapses by expression. One that systemd does not take is left out.
    """
    chosen = sorted(set(calendars))
    if not chosen:
        return {}
    base = f"--base-time=@{after_s:.6f}"
    text = _ask("calendar", f"--iterations={count}", base, "--", *chosen, check=False)
    found = {}
    for block in text.split("\n\n"):
        # An expression that is in its normalized form already has no line for the original one.
        form = re.search(r"^ *(?:Original|Normalized) form: (.*)$", block, re.MULTILINE)
        if form:
            found[form[1]] = _times_in(block)[:count]
    return found


def elapses_until(
    calendars: Iterable[str], *, after_s: float, until_s: float, most: int
) -> dict[str, list[datetime]]:
    """All elapses of each expression from `after_s` to `until_s`, in a few calls for all of them.

    Args:
        most: how many elapses may be computed, some 10 µs each; the expressions for which it is not enough, those that
            elapse most often, are left out.

    Returns:
        The elapses by expression; none for one that systemd does not take.
    """
    found: dict[str, list[datetime]] = {}
    open_ones, count = set(calendars), 4
    while open_ones and count * len(open_ones) <= most:
        most -= count * len(open_ones)
        asked, wanted = elapses_of_each(open_ones, count, after_s=after_s), []
        for calendar in list(open_ones):
            times = asked.get(calendar, [])
            if len(times) < count or (last_s := times[-1].timestamp()) >= until_s:
                found[calendar] = [time for time in times if time.timestamp() <= until_s]
                open_ones.remove(calendar)
            else:
                # As if they went on like this.
                wanted.append(int(count * 1.05 * (until_s - after_s) / (last_s - after_s)) + 2)
        count = max(2 * count, min(wanted, default=0))
    return found


def _times_in(text: str) -> list[datetime]:
    return sorted({datetime.fromisoformat(f"{found}+00:00") for found in _IN_UTC.findall(text)})


def _ask(*words: str, check: bool = True) -> str:
    try:
        done = asked([PROGRAM, *words], _TIMEOUT_S)
    except FileNotFoundError:
        missing = f"systemd: there is no {PROGRAM} here to compute elapses"
        raise NotAvailable(missing, hint="apt install systemd; it need not run") from None
    except subprocess.TimeoutExpired:
        late = f"{PROGRAM}: no answer within {_TIMEOUT_S} s"
        raise SystemdError(late, hint="do it again when the machine is less busy") from None
    if check and done.returncode:
        raise SystemdError(f"{PROGRAM}: {done.stderr.strip()}")
    return done.stdout
