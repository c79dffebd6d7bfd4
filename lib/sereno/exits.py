"""Exit statuses of a run: what its process tells systemd, and what is read from `ExecMainStatus` again."""

SUCCESS = 0
FAILURE = 1
WRONG_USE = 2
# The template's SuccessExitStatus= names these two, so that they are no failure for systemd either.
# 77: left out on purpose; automake's status of a skipped test.
SKIPPED = 77
# 143: stopped by the administrator or by a shutdown; 128 + SIGTERM, as a shell shows it.
INTERRUPTED = 143

OVER_LIMIT = "over its time limit"
"""What the error of a run says that its limit ended: of the field, which has no language of the log's."""
