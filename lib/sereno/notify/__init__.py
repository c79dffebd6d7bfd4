"""Telling people: what fails, what recovers, and what a successful run warns of.

    sereno@JOB.service ── OnFailure= ──→ sereno-failed.service, the same for every job ─────────┐
          │                                                                                     ├─→ service → handling
          └─ a datagram, when a success has something to tell → sereno-notify.socket, .service ─┘      → delivery

systemd gives a handler of many units no word of which one failed (MONITOR_… of systemd.exec(5)), and a handler for each
job is a unit for each job, which every reload loads. So the one looks for what failed since it was started last.

`config`, `message` and `throttle` are pure. `evidence` reads the journal, `sereno.records.account` asks the
manager, `datagram` reads the socket, `state` the files that remember what was told; `senders` talk to the world,
`delivery` has them do so at once and records how it went. A run imports `wake` alone, and only when it has something
to tell.
"""
