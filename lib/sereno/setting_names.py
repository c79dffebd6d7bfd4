"""Names of the settings in a run's environment. Each stands here once, and in the hand-written units.

An administrator can change them with `systemctl edit` like all others. Every run loads this: it imports nothing.
"""

# Written into a job's drop-in (units.unit_text, units.service_text, declare.retry), each by its option. Read by:
INTERVAL_S = "SERENO_INTERVAL_S"  # runner, for an overrun; metrics
CALENDAR_STEP_S = "SERENO_CALENDAR_STEP_S"  # runner: whether the timer can have elapsed
TIMER_SLACK_S = "SERENO_TIMER_SLACK_S"  # run.lateness
MISFIRE_GRACE_S = "SERENO_MISFIRE_GRACE_S"  # runner; run.lateness
ONLY_IF_SUCCESS = "SERENO_ONLY_IF_SUCCESS"  # runner; run.only_if_success
KWARGS = "SERENO_KWARGS"  # runner
RETRIES = "SERENO_RETRIES"  # runner; declare.retry
RETRY_DELAY_S = "SERENO_RETRY_DELAY_S"  # declare.retry; the field of a record has the same name
RETRY_BACKOFF = "SERENO_RETRY_BACKOFF"  # declare.retry
RETRY_DELAY_MAX_S = "SERENO_RETRY_DELAY_MAX_S"  # declare.retry
PING_URL = "SERENO_PING_URL"  # run.closing; run.heartbeat
PING_URL_FILE = "SERENO_PING_URL_FILE"  # run.closing; run.heartbeat
ONCE_PER = "SERENO_ONCE_PER"  # runner
FLEET_URL_FILE = "SERENO_FLEET_URL_FILE"  # run.claiming
FLEET_APP = "SERENO_FLEET_APP"  # run.claiming
DECLARATION = "SERENO_DECLARATION"  # run.claiming, for `sereno doctor` on other hosts

# Left by a run's claim for the job and what it starts.
FENCE = "SERENO_FENCE"

# Written in the templates (systemd/system, systemd/user). Read by notify, and runner for the last one.
NOTIFY_CONFIG = "SERENO_NOTIFY_CONFIG"
NOTIFY_SOCKET = "SERENO_NOTIFY_SOCKET"
NOTIFY_STATE = "SERENO_NOTIFY_STATE"

# Written by an administrator. Read by run.closing and the cleanup; doctor.
TEXTFILE_DIR = "SERENO_TEXTFILE_DIR"
# Read by cache.place.
CACHE_URL = "SERENO_CACHE_URL"
# Read by messages.
LANGUAGE = "SERENO_LANG"
# By a backend's, for its scheduler and command.
APP = "SERENO_APP"

# Of a run that systemd did not start, by whoever does (export.kubernetes). Read by run.outside.
LOG = "SERENO_LOG"
RUN_ID = "SERENO_RUN_ID"
ELAPSE = "SERENO_ELAPSE"  # the field of a record has the same name
EXIT_SKIPPED = "SERENO_EXIT_SKIPPED"
