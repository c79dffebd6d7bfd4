"""Hosts as processes: `python racers.py URL HOST` claims what each line of its input says, and answers with a line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

from sereno.errors import SerenoError
from sereno.fleet.claim import Claim
from sereno.fleet.postgresql import PostgreSQL

# What others wrote, and what is wrong with it: two hosts that look at once find nobody.
NOT_EXISTS = """
insert into sereno.elapse (app, job, elapse, kind, host, boot, run, lease_until)
select 'shop', %(job)s, to_timestamp(%(elapse_s)s), 'timer', %(host)s, '', %(run)s, now() + interval '1 hour'
where not exists (select from sereno.elapse where app = 'shop' and job = %(job)s and state = 'running')
on conflict do nothing returning token
"""
# A lock of a run: taken where it is free, given back at the end.
LOCK = """
insert into locks (job, host) values (%(job)s, %(host)s)
on conflict (job) do update set host = excluded.host where locks.host is null returning 1
"""
UNLOCK = "update locks set host = null where job = %(job)s"


def claim_of(host: str, asked: dict[str, object]) -> Claim:
    given = {"app": "shop", "job": "books", "kind": "timer", "lease_s": 60.0, "boot": host, **asked}
    return Claim(host=host, **{"run": f"{host}-{asked['elapse_s']}", **given})  # type: ignore[arg-type]


class Kept:
    """A driver whose connection is there already, so that racers are as near to each other as they can be."""

    def __init__(self, driver: Any, url: str) -> None:
        self.Error, self.DataError = driver.Error, driver.DataError
        self.connection = driver.connect(url)
        self.connection.autocommit = True

    def connect(self, _: str, **__: str) -> Kept:
        return self

    def cursor(self) -> Any:
        return self.connection.cursor()

    def close(self) -> None:
        pass


def main(url: str, host: str) -> None:
    store = PostgreSQL(url, limit_s=60)
    connection = store._driver = Kept(store._driver, url)
    for line in sys.stdin:
        asked = json.loads(line)
        how, at_s = asked.pop("how", "claim"), asked.pop("at_s", 0.0)
        time.sleep(max(0.0, at_s - 0.001 - time.time()))
        while time.time() < at_s:
            pass
        work_s = asked.pop("work_s", 0.0)
        claim = claim_of(host, asked)
        given = dict(zip(claim._fields, claim, strict=True))
        won = False
        try:
            if how == "claim":
                won = store.claim(claim, lambda _: None).token is not None
            else:
                with connection.cursor() as cursor:
                    cursor.execute(NOT_EXISTS if how == "not exists" else LOCK, given)
                    won = cursor.fetchone() is not None
            if won and work_s:
                time.sleep(work_s)
                if how == "claim":
                    store.end(claim.run, "success", work_s * 1000, None, None)
                else:
                    with connection.cursor() as cursor:
                        cursor.execute(UNLOCK, given)
        except SerenoError as error:
            print(json.dumps({"error": error.message}), flush=True)
            continue
        print(json.dumps({"won": won}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
