"""`sereno doctor` on a machine that is really broken: it names the cause, and what it says mends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from shop import Shop

if TYPE_CHECKING:
    from machine import Machine

TIMER = "sereno@cache_cleanup_hourly.timer"
SERVICE = "sereno@cache_cleanup_hourly.service"
UNITS = "/etc/systemd/system"
SCRIPT = "/opt/sereno/current/bin/cache_cleanup_hourly"
DROP_IN = f"{UNITS}/{SERVICE}.d/weak.conf"
CACHE = "/var/cache/sereno/metadata"
# Name of the check, what breaks the machine, the subject it is about, what mends it (None: the hint itself).
BREAKAGES = [
    ("timer inactive", f"systemctl stop {TIMER}", TIMER, None),
    ("paused", f"systemctl disable --now {TIMER}", TIMER, None),
    ("masked", f"systemctl mask {SERVICE}", SERVICE, None),
    (
        "masked",
        f"ln -sf /dev/null {UNITS}/{TIMER} && systemctl daemon-reload && systemctl stop {TIMER}",
        f"{UNITS}/{TIMER}",
        None,
    ),
    (
        "foreign file",
        f"printf '[Timer]\\nOnCalendar=daily\\n' >{UNITS}/sereno@other.timer",
        f"{UNITS}/sereno@other.timer",
        None,
    ),
    (
        "unit changed by hand",
        f"sed -i 's/^OnCalendar=.*/OnCalendar=daily/' {UNITS}/{TIMER}; systemctl daemon-reload",
        f"{UNITS}/{TIMER}",
        None,
    ),
    ("daemon-reload", f"touch {UNITS}/{TIMER}", f"{UNITS}/{TIMER}", None),
    ("entry script", f"chmod -x {SCRIPT}", SERVICE, None),
    (
        "entry script",
        f"mv {SCRIPT} /root/script",
        SERVICE,
        "/src/install.sh --wheels /wheels",
    ),
    ("target", "systemctl stop sereno.target", "sereno.target", None),
    ("target", "systemctl disable sereno.target", "sereno.target", None),
    ("target", "systemctl stop sereno-app@sereno.target", "sereno-app@sereno.target", None),
    ("time zone", "ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime", TIMER, None),
    ("cache rights", "chmod 0755 /var/cache/sereno", "/var/cache/sereno", None),
    ("cache rights", f"chown nobody {CACHE}", CACHE, None),
    ("cache rights", f"chmod 0640 {CACHE}/open.lock", f"{CACHE}/open.lock", None),
    ("cache rights", f"rm -r {CACHE}", CACHE, None),
    (
        "stamp",
        "touch /var/lib/systemd/timers/stamp-sereno@gone.timer",
        "/var/lib/systemd/timers/stamp-sereno@gone.timer",
        None,
    ),
    (
        "sandbox",
        f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '[Service]\\nProtectSystem=no\\n' >{DROP_IN};"
        " systemctl daemon-reload",
        DROP_IN,
        f"rm {DROP_IN} && systemctl daemon-reload",
    ),
]


def examine(machine: Machine, *words: str, user: str | None = None) -> list[dict[str, Any]]:
    done = machine.run("sereno", "doctor", "--json", *words, check=False, user=user)
    shown = json.loads(done.stdout)
    assert done.returncode == (1 if shown["findings"] else 0), done.stderr
    assert shown["well"] is (not shown["findings"])
    found: list[dict[str, Any]] = shown["findings"]
    return found


@pytest.fixture
def well(machine: Machine) -> Machine:
    assert examine(machine) == []
    return machine


@pytest.mark.parametrize(
    ("check", "breakage", "subject", "cure"),
    BREAKAGES,
    ids=[f"{check}: {breakage[:40]}" for check, breakage, *_ in BREAKAGES],
)
def test_what_is_broken_is_named_and_what_the_hint_says_mends_it(
    well: Machine, check: str, breakage: str, subject: str, cure: str | None
) -> None:
    well.run("sh", "-ec", breakage)
    found = examine(well)
    named = [each for each in found if (each["check"], each["subject"]) == (check, subject)]
    assert named, found
    assert f": {subject}: " in well.run("sereno", "doctor", check=False).stdout
    well.run("sh", "-ec", cure or named[0]["hint"], timeout=180)
    assert examine(well) == []


def test_a_failed_run_is_a_problem_until_the_next_one_succeeds(well: Machine) -> None:
    shop = Shop(well)
    well.write("/srv/shop/shop_jobs.py", "def mended():\n    return {'error': 'no disk'}\n")
    shop.install("add_interval_job(shop_jobs.mended, 'mended', hours=1)")
    well.run("sereno", "run", "--wait", "mended", check=False)
    (found,) = examine(well)
    assert (found["check"], found["subject"]) == ("run", "sereno@mended.service")
    # The manager's memory of it may be wiped; the journal's is not.
    well.run("systemctl", "reset-failed")
    (found,) = examine(well)
    assert (found["field"], found["value"]) == ("SERENO_STATUS", "failed")
    well.write("/srv/shop/shop_jobs.py", "def mended():\n    return {}\n")
    well.run("sh", "-ec", found["hint"].partition("then: ")[2])
    assert examine(well) == []


# Two records that any user may send: the job's last run failed, and a message did not leave.
FORGED = """
import time
from systemd import journal
journal.send("x", MESSAGE_ID="c8db476b7d964ab2bd2d7abc51d7b261", SERENO_JOB="cache_cleanup_hourly",
    SERENO_RUN="f" * 32, SERENO_STATUS="failed")
journal.send("x", MESSAGE_ID="2f34b1d9ea8d4da596dc0aa613190056", SERENO_HANDLER="command", SERENO_ERROR="x")
time.sleep(1)  # journald is to see whose they are
"""


def test_what_any_user_can_write_into_the_journal_is_no_finding(well: Machine) -> None:
    well.write(
        "/etc/sereno/notify.toml",
        '[[handler]]\ntype = "command"\ncommand = ["/bin/true"]\n',
        0o600,
    )
    well.run_unit("python3", "-c", FORGED, user="daemon")
    well.wait_for(lambda: len(well.journal("MESSAGE=x")) == 2, what="the forged records")
    assert examine(well) == []
    well.run("rm", "-r", "/etc/sereno")


def test_a_wedged_interval_is_named_and_a_run_sets_it_going_again(well: Machine) -> None:
    shop = Shop(well)
    shop.install("add_interval_job(shop_jobs.mended, 'often', hours=1)")
    assert examine(well) == []
    # Without its seed an interval timer that has not run yet has nothing to count from.
    well.run("sh", "-ec", "rm -r /run/systemd/system/sereno@often.timer.d; systemctl daemon-reload")
    well.wait_for(
        lambda: well.show("sereno@often.timer", "SubState")["SubState"] == "elapsed",
        what="a wedged timer",
    )
    (found,) = examine(well)
    assert (found["check"], found["subject"]) == ("timer wedged", "sereno@often.timer")
    well.run("sh", "-ec", found["hint"])
    assert examine(well) == []
    shop.remove_all()


def test_jobs_of_every_kind_are_well_before_and_after_a_reboot_and_after_a_run_by_hand(
    well: Machine,
) -> None:
    shop = Shop(well)
    shop.install(
        "add_interval_job(shop_jobs.mended, 'often', hours=1)",
        "add_interval_job(shop_jobs.mended, 'spread', hours=2, jitter=600)",
        "add_cron_job(shop_jobs.mended, 'nightly', hour=3, jitter=900, timezone='Europe/Berlin')",
        "add_cron_job(shop_jobs.mended, 'either', cron_expression='30 4 1,15 * 5', accuracy=60)",
        "add_cron_job(shop_jobs.mended, 'seconds', second='*/2')",
        "add_cron_job(shop_jobs.mended, 'warm_up', cron_expression='@reboot')",
    )
    assert examine(well) == []
    for job_id in ("often", "spread", "nightly", "warm_up"):
        well.run("sereno", "run", "--wait", job_id)
    assert examine(well) == []
    well.reboot()
    assert examine(well) == []
    well.run("sereno", "run", "--wait", "often")
    assert examine(well) == []
    shop.remove_all()


def test_an_interpreter_that_is_gone_is_named(well: Machine) -> None:
    shop = Shop(well)
    shop.install("add_interval_job(shop_jobs.mended, 'often', hours=1)")
    well.run("mv", "/srv/shop/venv", "/srv/shop/gone")
    (found,) = examine(well)
    assert (found["check"], found["value"]) == ("entry script", "/srv/shop/venv/bin/python")
    well.run("mv", "/srv/shop/gone", "/srv/shop/venv")
    shop.remove_all()
    assert examine(well) == []


def test_a_full_cache_is_named_before_it_evicts(well: Machine) -> None:
    fill = (
        "import sys; sys.path.insert(0, '/opt/sereno/lib'); from sereno import MetadataCache\n"
        f"cache = MetadataCache({CACHE!r}, max_size=int(sys.argv[1]))\n"
        "for n in range(int(sys.argv[2])): cache.set(str(n), n)"
    )
    python = "/opt/sereno/current/venv/bin/python3"
    well.run(python, "-c", fill, "20", "20")
    (found,) = examine(well)
    assert (found["check"], found["value"]) == ("cache", "20 of 20")
    well.run("sereno", "cache", "clear")
    assert examine(well) == []
    well.run(python, "-c", fill, "2000", "0")


def test_a_command_of_another_version_than_the_jobs_says_so(well: Machine) -> None:
    module = "/opt/sereno/current/lib/sereno/__init__.py"
    text = well.read(module)
    well.write(module, text.replace("__version__ = ", "__version__ = '9.9'  # "))
    done = well.run("/src/bin/sereno", "doctor", "--json", check=False)
    found = [
        each for each in json.loads(done.stdout)["findings"] if each["check"] == "installation"
    ]
    assert len(found) == 1
    assert found[0]["subject"].startswith("/opt/sereno/releases/")
    well.write(module, text)
    assert examine(well) == []


def test_a_users_scope_is_examined_without_root(well: Machine) -> None:
    well.run("useradd", "--create-home", "ada")
    well.run("loginctl", "enable-linger", "ada")
    well.wait_for(
        lambda: well.run("systemctl", "--user", "is-active", "timers.target", user="ada", check=False).stdout
        == "active\n",
        what="ada's user manager",
    )  # fmt: skip
    well.run("/src/install.sh", "--user", "--wheels", "/wheels", user="ada", timeout=180)
    assert examine(well, "--user", user="ada") == []
    well.run("rm", "/var/lib/systemd/linger/ada")
    (found,) = examine(well, "--user", user="ada")
    assert (found["check"], found["hint"]) == ("lingering", "loginctl enable-linger")
    well.run("loginctl", "enable-linger", "ada")
    well.run("systemctl", "--user", "stop", TIMER, user="ada")
    (found,) = examine(well, "--user", user="ada")
    well.run("sh", "-ec", found["hint"], user="ada")
    assert examine(well, "--user", user="ada") == []
    # What he may not look at he is told.
    assert {each["check"] for each in examine(well, "--system", user="ada")} == {"not checked"}


def test_a_journal_that_a_boot_empties_is_named(well: Machine) -> None:
    well.run("sh", "-ec", "rm -r /var/log/journal; systemctl restart systemd-journald")
    (found,) = [each for each in examine(well) if each["field"] == "Storage"]
    well.run("sh", "-ec", found["hint"])
    assert [each for each in examine(well) if each["field"] == "Storage"] == []
