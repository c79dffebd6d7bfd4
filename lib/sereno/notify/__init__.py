"""Telling people: what fails, what recovers, and what a successful run warns of.

    sereno@JOB.service ── OnFailure= ──→ sereno-failed@JOB.service ─┐
          │                                                         ├─→ service → handling → delivery
          └─ a datagram, when a success has something to tell ──→ sereno-notify.socket, .service ─┘

`config`, `event`, `message` and `throttle` are pure. `evidence` reads the journal, `sereno.records.account` asks the
manager, `datagram` reads the socket, `state` the files that remember what was told; `senders` talk to the world,
`delivery` has them do so at once and records how it went. A run imports `wake` alone, and only when it has something
to tell.
"""
