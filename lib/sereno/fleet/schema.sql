-- What a fleet shares: who ran which elapse of which job, and what is paused. `sereno fleet init` shows and applies this;
-- doing it again changes nothing. Every time in it is the server's own.

create schema if not exists sereno;
create sequence if not exists sereno.token;

-- One row for each run of a job that runs once in the fleet: its claim, and later its end. The row outlives the run: that
-- a host comes late to an elapse is seen by it.
create table if not exists sereno.elapse (
    app text not null,
    job text not null,
    elapse timestamptz not null,                -- when the timer was due; of a run that somebody started, when it began
    kind text not null default 'timer',         -- or 'hand'
    host text not null,
    boot text not null,                         -- of the host's kernel and its init
    run text not null,                          -- systemd's invocation id
    state text not null default 'running',      -- 'success', 'failed', 'interrupted', 'lost'; 'skipped': it was not run
    token bigint not null default nextval('sereno.token'),
    lease_until timestamptz not null,           -- the host's own systemd has ended the run by then
    claimed_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    duration_ms float8,
    error text,
    stats json,                                 -- not jsonb, which refuses some of what a job may return
    primary key (app, job, elapse, kind),
    -- Whoever may write here can still not have a host show a moment that no calendar of its has.
    check (elapse between '1970-01-01Z' and '9000-01-01Z' and claimed_at between '1970-01-01Z' and '9000-01-01Z')
);
-- That two runs of a job never overlap is this constraint: two hosts that look for a running one and then insert both find
-- none.
create unique index if not exists elapse_running on sereno.elapse (app, job) where state = 'running';

-- The switches.
create table if not exists sereno.job (
    app text not null,
    job text not null,
    paused_since timestamptz,
    resumed_at timestamptz,                     -- what was due before is not made up
    primary key (app, job),
    check (paused_since between '1970-01-01Z' and '9000-01-01Z')
);

-- Where the jobs are installed, for `sereno doctor`: each host says so at most once an hour.
create table if not exists sereno.host (
    app text not null,
    job text not null,
    host text not null,
    machine text not null,                      -- /etc/machine-id
    declaration text not null,                  -- schedule and function
    ahead_s float8 not null,                    -- its clock before the server's
    seen timestamptz not null default clock_timestamp(),
    primary key (app, job, host, machine),
    check (seen between '1970-01-01Z' and '9000-01-01Z')
);
