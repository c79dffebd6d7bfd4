"""Job functions of every kind, for the runner's tests."""

import sys


def stats():
    return {"rows": 3, "rate": 78.5, "note": "bien", "nested": {"a": [1, 2]}}


async def stats_async():
    import asyncio

    await asyncio.sleep(0)
    return {"rows": 4}


def nothing():
    return None


def a_list():
    return [1, 2]


def raises():
    raise ValueError("no such table: ventas")


def raises_two_lines():
    raise ValueError("boom\nsecond line")


def raises_system_exit():
    sys.exit("giving up")


def reports_error():
    return {"error": "disk on fire", "rows": 0}


def reports_status():
    return {"status": "error", "message": "no route"}


def writes_to_stdout():
    print("hello from the job")


def logs():
    import logging

    logging.getLogger("shop").warning("careful", extra={"SERENO_ALERT": "x", "lower": 1})


def over_a_second():
    """As if it had taken one: the clock is put forward."""
    import time

    later = time.time() + 1
    time.time = lambda: later
