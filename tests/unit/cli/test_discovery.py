"""`sereno apply --jobs` and `--entry-points`: whose jobs they take, under which name, and how they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_systemd import FakeManager

from sereno import cli
from sereno.units import installation
from sereno.units.unit_text import START

LIB = str(Path(cli.__file__).parents[2])
JOBS = """
def sync():
    return {}

def tidy():
    return {}

def register(scheduler):
    scheduler.add_interval_job(sync, f"{scheduler.app}_sync", minutes=15)

def only_tidy(scheduler):
    scheduler.add_cron_job(tidy, f"{scheduler.app}_tidy", hour=3)
"""


@pytest.fixture(autouse=True)
def use_fake(units: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "Systemctl", lambda user: manager)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on this interpreter's path; what was imported from it is forgotten after the test."""
    place = tmp_path / "packages"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    before = set(sys.modules)
    yield place
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(place)):
            del sys.modules[name]


def write(place: Path, name: str, text: str = JOBS) -> None:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def call(*words: str) -> int:
    return cli.main(("apply", "--user", "--no-diff", *words))


def timers(units: Path) -> list[str]:
    return sorted(path.name for path in units.glob("*.timer"))


def test_the_jobs_of_a_module_are_installed_for_its_application_and_run_by_this_interpreter(
    packages, units, capsys
) -> None:
    write(packages, "shop_a.py")
    assert call("--jobs", "shop_a", "--app", "shop", "--dry-run") == 0
    assert not units.exists()
    assert call("--jobs", "shop_a", "--app", "shop") == 0
    assert call("--jobs", "shop_a", "--app", "shop") == 0
    created = "create sereno@shop_sync.timer"
    said = [line.partition("; next ")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [created, created, "nothing to do"]
    drop_in = (units / "sereno@shop_sync.service.d/50-sereno.conf").read_text()
    assert f'ExecStart={sys.executable} -P -c "{START}" shop_sync shop_a:sync\n' in drop_in
    assert str(packages) in drop_in


def test_without_register_every_register_function_of_the_package_itself_is_called(
    packages, units
) -> None:
    write(packages, "shop_b/__init__.py",
          "from other_b import register_theirs\nfrom shop_b.mine import register_mine\n"
          "def register_more(s): s.add_cron_job(more, 'more', hour=1)\ndef more(): pass\n")  # fmt: skip
    write(packages, "shop_b/mine.py",
          "def mine(): pass\ndef register_mine(s): s.add_cron_job(mine, 'mine', hour=2)\n")  # fmt: skip
    write(packages, "other_b.py",
          "def theirs(): pass\ndef register_theirs(s): s.add_cron_job(theirs, 'theirs', hour=3)\n")  # fmt: skip
    assert call("--jobs", "shop_b", "--app", "shop") == 0
    assert timers(units) == ["sereno@mine.timer", "sereno@more.timer"]


def test_prune_takes_the_callers_own_jobs_and_nobody_elses(packages, units) -> None:
    write(packages, "shop_c.py")
    assert call() == 0
    for app in ("shop", "news"):
        assert call("--jobs", "shop_c", "--app", app) == 0
    assert call("--jobs", "shop_c:only_tidy", "--app", "shop") == 0
    assert "sereno@shop_sync.timer" in timers(units)
    assert call("--jobs", "shop_c:only_tidy", "--app", "shop", "--prune") == 0
    assert timers(units) == [
        "sereno@cache_cleanup_hourly.timer",
        "sereno@news_sync.timer",
        "sereno@shop_tidy.timer",
    ]


def test_a_backend_needs_a_name_and_takes_that_of_the_environment(
    packages, units, monkeypatch, capsys
) -> None:
    write(packages, "shop_d.py")
    assert call("--jobs", "shop_d") == 2
    assert "hint: --app NAME" in capsys.readouterr().err
    assert not units.exists()
    monkeypatch.setenv("SERENO_APP", "shop")
    assert call("--jobs", "shop_d") == 0
    assert timers(units) == ["sereno@shop_sync.timer"]


def test_an_entry_point_is_an_application_and_plain_apply_looks_at_none(
    packages, units, capsys
) -> None:
    write(packages, "shop_e.py")
    write(
        packages, "shop_e-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop_e\nVersion: 1\n"
    )
    write(packages, "shop_e-1.dist-info/entry_points.txt",
          "[sereno.jobs]\nshop = shop_e:register\nnews = shop_e:only_tidy\n")  # fmt: skip
    assert call() == 0
    assert timers(units) == ["sereno@cache_cleanup_hourly.timer"]
    assert call("--entry-points", "--app", "news") == 0
    assert call("--entry-points", "--prune") == 0
    assert timers(units) == [
        "sereno@cache_cleanup_hourly.timer",
        "sereno@news_tidy.timer",
        "sereno@shop_sync.timer",
    ]
    assert call("--entry-points", "--app", "nobody") == 2
    assert "has an entry point named 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "text", "said"),
    [
        ("no_such_shop", None, "has no module 'no_such_shop'"),
        ("f_needs", "import no_such_part", "importing 'f_needs' raised ModuleNotFoundError"),
        ("f_raises", "1 / 0", "importing 'f_raises' raised ZeroDivisionError: division by zero ("),
        ("f_exits", "raise SystemExit(3)", "importing 'f_exits' raised SystemExit: 3 ("),
        ("f_syntax", "def", "importing 'f_syntax' raised SyntaxError"),
        ("f_none", "", "has no function register(scheduler) and none named register_…"),
        ("f_none:start", "", "has no function 'start'"),
        ("f_value", "register = 7", "has no function 'register'"),
        ("f_fails", "def register(s): {}['x']", "f_fails:register raised KeyError: 'x' ("),
        ("f_lambda", "def register(s): s.add_cron_job(lambda: 1, 'x', hour=1)", "func: a lambda"),
        ("shop/jobs.py", None, "is neither MODULE nor MODULE:FUNCTION"),
    ],
)  # fmt: skip
def test_what_cannot_register_is_refused_in_one_line_and_changes_nothing(
    reference, text, said, packages, units, capsys
) -> None:
    if text is not None:
        write(packages, reference.partition(":")[0] + ".py", text)
    assert call("--jobs", reference, "--app", "shop") == 2
    error, *hint = capsys.readouterr().err.splitlines()
    assert said in error
    assert [line for line in hint if not line.startswith("hint: ")] == []
    assert not units.exists()


def test_a_package_that_a_module_misses_is_to_be_installed_for_this_interpreter(
    packages, capsys
) -> None:
    write(packages, "f_extra.py", "import requests_of_nobody\n")
    assert call("--jobs", "f_extra", "--app", "shop") == 2
    said = capsys.readouterr().err
    assert "No module named 'requests_of_nobody'" in said
    assert f"hint: install what brings it: {sys.executable} -m pip install" in said


@pytest.mark.parametrize("code", ["import f_fast._core", "from f_fast import _core"])
def test_a_module_that_was_built_for_another_python_is_named_with_the_way_out(
    code, packages, capsys
) -> None:
    write(packages, "f_fast/__init__.py", f"{code}\n")
    write(packages, "f_fast/_core.cpython-39-x86_64-linux-gnu.so", "")
    write(packages, "f_uses.py", "import f_fast\n")
    assert call("--jobs", "f_uses", "--app", "shop") == 2
    hint = capsys.readouterr().err.splitlines()[-1]
    assert "/f_fast/_core.cpython-39-x86_64-linux-gnu.so is of another Python than 3." in hint
    assert hint.endswith(f"make the environment of {sys.executable} again")


def test_python_m_sereno_is_the_command_and_finds_the_package_in_the_directory_it_is_run_in(
    tmp_path: Path,
) -> None:
    write(tmp_path, "shop_g.py")
    (tmp_path / "image/etc/systemd/system").mkdir(parents=True)
    (tmp_path / "image/etc/systemd/system/sereno@.service").touch()
    done = subprocess.run(
        [*(sys.executable, "-m", "sereno", "apply", "--no-diff", "--jobs", "shop_g", "--app", "shop"),
         *("--root", str(tmp_path / "image"))],
        cwd=tmp_path, env={"PYTHONPATH": LIB}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("create sereno@shop_sync.timer\n", "")


def test_a_schedule_that_is_refused_is_shown_with_its_pointer_on_lines_of_its_own(
    packages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "from sereno import get_scheduler\ndef f(): pass\n"
    wrong = "get_scheduler('y', scope='user').add_cron_job(f, 'x', cron_expression='0 25 * * *')\n"
    write(packages, "shop_at_import.py", text + wrong)
    write(packages, "shop_at_call.py", f"{text}def register(scheduler):\n    {wrong}")
    for name in ("shop_at_import", "shop_at_call"):
        assert call("--jobs", name, "--app", "x") == 2
        said = "\nsereno: job x: hour: '25' is out of range: 0 to 23\n    0 25 * * *\n      ^^\n"
        assert said in "\n" + capsys.readouterr().err
