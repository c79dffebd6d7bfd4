"""A crontab's jobs as services and timers: what each line becomes, or why it becomes nothing."""

import doctest
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemd_judge import assert_reads_without_a_word

from sereno import cli, crontab
from sereno.crontab import Crontab, Entry, read_crontab, split_percent
from sereno.crontab_units import render_entry, unit_name

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "crontab"


def one(text: str, **options) -> Entry:
    crontab = read_crontab(text, **options)
    assert crontab.refused == ()
    (entry,) = crontab.entries
    return entry


def units_of(crontab: Crontab, **options) -> dict[str, str]:
    return {
        name: text
        for entry in crontab.entries
        for name, text in render_entry(entry, **options).items()
    }


def test_an_entry_is_its_schedule_and_the_rest_of_its_line() -> None:
    entry = one("  */10 9-17\t* * mon-fri   backup --all  'a  b' %  in \n")
    assert entry.command == "backup --all  'a  b' "
    assert entry.trigger is not None
    assert entry.trigger.text == "cron[*/10 9-17 * * mon-fri]"
    assert (entry.line, entry.user, entry.stdin, entry.home) == (1, None, "  in ", None)


def test_the_format_of_the_system_has_a_user_before_the_command() -> None:
    entry = one("17 *\t* * *\troot\t cd / && run-parts /etc/cron.hourly", system=True)
    assert (entry.user, entry.command) == ("root", "cd / && run-parts /etc/cron.hourly")
    assert one("@daily www-data true", system=True).user == "www-data"
    assert one("@daily true", user="ana").user == "ana"


def test_comments_and_empty_lines_are_nothing_and_count_as_lines() -> None:
    assert one("# a comment\n\n   \n  # another\n@daily true").line == 5


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("plain", "plain", None),
        (r"date +\%F", "date +%F", None),
        ("mail a%Hi%there%", "mail a", "Hi\nthere"),
        ("cat%", "cat", ""),
        ("cat%%two", "cat", "\ntwo"),
        (r"cat%100\% sure", "cat", "100% sure"),
        (r"printf a\\n", r"printf a\\n", None),
    ],
)
def test_a_percent_sign_begins_the_input_and_breaks_its_lines(text, command, stdin) -> None:
    assert split_percent(text) == (command, stdin)


def test_variables_hold_for_the_entries_after_them() -> None:
    text = '@daily a\nA=1\nB = \'two  words\'\n"C"=""\n@daily b\nA=3\n@daily c\n'
    environments = [dict(entry.environment) for entry in read_crontab(text).entries]
    path = {"PATH": "/usr/bin:/bin"}
    assert environments == [
        path,
        {**path, "A": "1", "B": "two  words", "C": ""},
        {**path, "A": "3", "B": "two  words", "C": ""},
    ]


def test_shell_and_home_are_where_and_by_what_the_command_runs() -> None:
    entry = one("SHELL=/bin/bash\nHOME=/srv/data\nPATH=/opt/bin\n@daily true")
    assert (entry.shell, entry.home, entry.environment["PATH"]) == (
        "/bin/bash",
        "/srv/data",
        "/opt/bin",
    )
    service = render_entry(entry)["cron-true-4.service"]
    assert "\nWorkingDirectory=/srv/data\n" in service
    assert "\nExecStart=/bin/bash -c true\n" in service


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("MAILTO=ops@example.org", "no mail is sent; output goes to the journal"),
        ('MAILTO=""', "no mail is sent"),
        ("LOGNAME=ana", "it follows from the user of the run"),
        ("CRON_TZ=Europe/Berlin", "Debian's cron ignores it"),
        ("RANDOM_DELAY=30", "RandomizedDelaySec="),
        ("@reboot start", "without a timer"),
        ("0 0 1-7 * 1 first-monday", "day and weekday are both restricted"),
        ("0 0 31 * * end-of-month", "for want of a day 31"),
    ],
)
def test_what_changes_is_said_of_its_line(line, says) -> None:
    crontab = read_crontab(f"# one\n{line}\n")
    (remark,) = crontab.remarks
    assert str(remark).startswith("line 2: ")
    assert says in remark.text
    assert crontab.refused == ()


def test_cron_tz_is_the_zone_of_the_entries_after_it() -> None:
    entry = one("CRON_TZ=Europe/Berlin\n0 3 * * * x")
    assert entry.trigger is not None
    assert entry.trigger.timer_lines() == ("OnCalendar=*-*-* 03:00:00 Europe/Berlin",)


@pytest.mark.parametrize(
    ("line", "says", "system"),
    [
        ("61 * * * * x", "minute: '61'", False),
        ("0 3 * * x", "day_of_week: 'x'", False),
        ("0 3 * *", "4 fields, not 5", False),
        ("0 3 * * *", "command: missing", False),
        ("@daily", "command: missing", False),
        ("0 3 * * * %input", "command: missing", False),
        ("@never x", "'@never' is no word of cron's", False),
        ("CRON_TZ=Nowhere/City", "timezone: ", False),
        ("SHELL=bash", "SHELL: 'bash' is not an absolute path", False),
        ("HOME=/srv/100%", "HOME: '/srv/100%' is not an absolute path", False),
        ("a-b=c", "variable: 'a-b' cannot be set", False),
        ("0 3 * * * /usr/bin/true", "user: '/usr/bin/true'", True),
        ("0 3 * * * root", "command: missing", True),
    ],
)
def test_a_line_that_cannot_be_moved_is_refused_alone_and_by_name(line, says, system) -> None:
    good = "@daily root true" if system else "@daily true"
    crontab = read_crontab(f"{line}\n{good}\n", system=system)
    assert [entry.line for entry in crontab.entries] == [2]
    (refused,) = crontab.refused
    assert str(refused).startswith("line 1: ")
    assert says in refused.text


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/backup.sh --all", "cron-backup.sh-1"),
        ("cd / && run", "cron-cd-1"),
        ("[ -x /bin/x ] && /bin/x", "cron-job-1"),
        ("ñandú", "cron-and-1"),
        ("x" * 300, f"cron-{'x' * 40}-1"),
    ],
)
def test_a_units_name_is_of_the_program_and_the_line(command, name) -> None:
    assert unit_name(one(f"@daily {command}")) == name


SAMPLE = r"""
SHELL=/bin/bash
PATH=/usr/local/bin:/usr/bin:/bin
GREETING = "100% \ 'sure'  $HOME"
*/10 * * * *  ana   /bin/echo --all "$HOME/x" 'y z' ${A:-b} >/dev/null 2>&1; echo "50\%" \\
30 2 13 * 5   root  cat%  Dear all,%%100\% "done" \ $HOME ñ  %
@reboot       root  /bin/echo started \
"""


def test_the_units_of_a_crontab_are_the_golden_ones() -> None:
    crontab = read_crontab(SAMPLE, system=True)
    assert crontab.refused == ()
    rendered = units_of(crontab)
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        shutil.rmtree(GOLDEN, ignore_errors=True)
        GOLDEN.mkdir(parents=True)
        for name, text in rendered.items():
            (GOLDEN / name).write_text(text)
    assert rendered == {path.name: path.read_text() for path in GOLDEN.iterdir()}


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (package systemd)"
)
def test_systemd_reads_every_unit_without_a_warning(tmp_path: Path) -> None:
    rendered = units_of(read_crontab(SAMPLE, system=True))
    for name, text in rendered.items():
        (tmp_path / name).write_text(text)
    assert_reads_without_a_word(tmp_path, rendered)


@given(st.text(min_size=1))
def test_no_command_can_write_a_line_of_its_own(command: str) -> None:
    for entry in read_crontab(f"@daily a {command}\n").entries:
        for text in render_entry(entry).values():
            for line in text.splitlines():
                # A unit's line is a section, a setting or empty, and its value is printable.
                assert line == "" or line.startswith("[") or line.partition("=")[0].isalpha()
                assert line.isprintable()
                assert not line.endswith("\\") or line.endswith("\\\\")


def test_the_command_prints_remarks_units_and_errors_and_writes_nothing(
    tmp_path: Path, capsys
) -> None:
    file = tmp_path / "crontab"
    file.write_text("MAILTO=me\n@daily one\n99 * * * * two\n")
    assert cli.main(["import-crontab", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("# line 1: MAILTO='me': no mail is sent")
    assert "\n# ~/.config/systemd/user/cron-one-2.timer (line 2)\n[Unit]\n" in said.out
    assert "two" not in said.out
    assert said.err.startswith(f"sereno: {file}: line 3: minute: '99'")
    assert [path.name for path in tmp_path.iterdir()] == ["crontab"]


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (["--system"], "@daily ana true\n", "\nUser=ana\n"),
        (["--run-as", "ana"], "@daily true\n", "\nUser=ana\n"),
        ([], "@reboot true\n", "\nWantedBy=default.target\n"),
        (["--run-as", "ana"], "@reboot true\n", "\nWantedBy=multi-user.target\n"),
    ],
)
def test_the_user_of_a_run_decides_its_scope(words, text, says, tmp_path, capsys) -> None:
    (tmp_path / "c").write_text(text)
    assert cli.main(["import-crontab", *words, str(tmp_path / "c")]) == 0
    said = capsys.readouterr().out
    assert says in said
    assert ("# /etc/systemd/system/" in said) is bool(words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/nonexistent"], "FILE: /nonexistent: No such file"),
        (["--run-as", "Not A User", "-"], "--run-as: 'Not A User'"),
        (["--run-as", "ana", "--system", "-"], "--run-as: with --system"),
    ],
)
def test_wrong_use_is_named(words, says, capsys) -> None:
    assert cli.main(["import-crontab", *words]) == 2
    assert capsys.readouterr().err.startswith(f"sereno: {says}")


def test_the_docstrings_examples_are_what_happens() -> None:
    assert doctest.testmod(crontab) == (0, 2)
