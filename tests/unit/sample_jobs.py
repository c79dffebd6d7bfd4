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
    later = sys.modules["sereno.runner"].time() + 1
    sys.modules["sereno.runner"].time = lambda: later


tries = 0


def fails_twice():
    global tries
    tries += 1
    if tries < 3:
        raise ConnectionError(f"no route, try {tries}")
    return {"tries": tries}


def tells(rows=0, *, text=""):
    return {"rows": rows, "text": text}


def waits():
    import time

    try:
        print("waiting", flush=True)
        for _ in range(600):
            time.sleep(0.1)
    except Exception:
        print("an Exception")
    finally:
        print("cleaning up", flush=True)
        sys.stdin.readline()
        print("cleaned up")


async def waits_async():
    import asyncio

    try:
        print("waiting", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaning up", flush=True)
        await asyncio.sleep(0)
        sys.stdin.readline()
        print("cleaned up")


def returns_what_it_has():
    import time

    from sereno.errors import RunInterrupted

    try:
        print("waiting", flush=True)
        for _ in range(600):
            time.sleep(0.1)
    except RunInterrupted:
        return {"rows": 1}


async def cancels_itself():
    import asyncio

    raise asyncio.CancelledError


async def raises_async():
    raise ValueError("no such table: ventas")


def ends_its_child():
    import os
    import signal

    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(20)
            os.write(tell, b"x")
            signal.pause()
        finally:
            os._exit(3)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    status = os.waitpid(child, 0)[1]
    return {"child": f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"}


def prints_and_is_killed():
    import os
    import signal

    print("half way")
    os.kill(os.getpid(), signal.SIGKILL)


async def of_a_shop(shop, deep=False):
    return {"shop": shop, "deep": deep}
