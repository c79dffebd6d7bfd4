"""How long it takes to read cron texts and to write their timer lines.

Run it: python tests/bench/bench_triggers.py [texts]
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

from sereno.triggers import CronTrigger

SHAPES = (
    "{m} {h} * * *", "*/{s} * * * *", "{m} {h} {d} * {w}", "{m} 9-17/{s} * * mon-fri", "{m},{h} {h} */{s} jan-mar *",
    "@hourly", "{m} {h} L * *", "{m} {h} * * {w}#2",
)  # fmt: skip


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    choose = random.Random(1)
    texts = [
        choose.choice(SHAPES).format(
            m=choose.randint(0, 59),
            h=choose.randint(0, 23),
            d=choose.randint(1, 28),
            w=choose.randint(0, 7),
            s=choose.randint(2, 20),
        )
        for _ in range(count)
    ]
    start = time.perf_counter()
    lines = sum(
        len(CronTrigger.from_expression(text).timer_lines(local_zone="Europe/Madrid"))
        for text in texts
    )
    seconds = time.perf_counter() - start
    print(
        f"{count} cron texts -> {lines} lines in {seconds:.3f} s, {seconds / count * 1e6:.1f} us each"
    )


if __name__ == "__main__":
    main()
