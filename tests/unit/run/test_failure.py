"""What is said of an exception: all that went wrong, the last place in the job's own code, and the way out."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sereno.errors import CacheError, InvalidTrigger, SerenoError
from sereno.run import failure
from sereno.run.failure import chain, summary
from sereno.triggers import CronTrigger


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def asks_many_shops() -> None:
    async def ask(shop: int) -> None:
        raise ConnectionError(f"shop {shop} answers 503")

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for shop in range(1, 6):
                group.create_task(ask(shop))

    asyncio.run(all_of_them())


def reads_what_is_no_json() -> None:
    json.loads("<html>")


def reads_the_environment() -> None:
    os.environ["NO_SUCH_SETTING"]


def calls_a_program() -> None:
    subprocess.run(["no-such-program"], check=True)


def raises_a_group_in_a_group() -> None:
    raise ExceptionGroup("outer", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])


def asks_a_library() -> None:
    import yaml

    yaml.safe_load("{")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (asks_many_shops, "ConnectionError: shop 1 answers 503; ConnectionError: shop 2 answers 503; "
         "ConnectionError: shop 3 answers 503; 2 more (test_failure.py:"),
        (reads_what_is_no_json, "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (test_failure.py:"),
        (reads_the_environment, "KeyError: 'NO_SUCH_SETTING' (test_failure.py:"),
        (calls_a_program, "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program' (test_"),
        (raises_a_group_in_a_group, "ValueError: a; KeyError: 'b' (test_failure.py:"),
        (asks_a_library, "ParserError: "),
    ],
)  # fmt: skip
def test_an_error_says_all_that_went_wrong_and_where_in_the_jobs_code(
    function: Callable[[], None], says: str
) -> None:
    told = summary(caught(function), "test_failure:f")
    assert told.startswith(says)
    where = "ask" if function is asks_many_shops else function.__name__
    assert told.endswith(f", {where})")


def test_the_own_code_of_a_job_may_be_installed_beside_the_libraries(tmp_path: Path) -> None:
    site = tmp_path / "lib/python3/site-packages"
    for name, text in {
        "shop": "import courier\ndef sync():\n    courier.send()\n",
        "courier": "import json\ndef send():\n    json.loads('<')\n",
    }.items():
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("")
        (site / name / "jobs.py").write_text(text.replace("courier", "courier.jobs"))
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\nfrom sereno.run.failure import summary\nimport shop.jobs\n"
        "try: shop.jobs.sync()\nexcept ValueError as error: print(summary(error, 'shop.jobs:sync'))\n"
    )
    library = Path(failure.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(library), str(site)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("(jobs.py:3, sync)\n")


def test_an_error_of_sereno_is_its_message_and_its_hint_the_way_out() -> None:
    error = CacheError("cache: no", hint="another one")
    assert summary(error) == "cache: no"
    assert failure.hint_for(error, sandboxed=False) == "another one"
    wrapped = ExceptionGroup("tasks", [RuntimeError("x")])
    wrapped.exceptions[0].__cause__ = error
    assert failure.hint_for(wrapped, sandboxed=False) == "another one"


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = ValueError(1), ValueError(2)
    one.__context__, other.__context__ = other, one
    assert list(chain(one)) == [one, other]


def test_hints_are_given_for_what_the_process_cannot_do_and_for_runs_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hint(error: BaseException) -> str | None:
        assert failure.hint_for(error, sandboxed=False) is None
        return failure.hint_for(error, sandboxed=True)

    named = OSError(-3, "Temporary failure in name resolution")
    wrapped = RuntimeError("could not connect")
    wrapped.__context__ = named
    monkeypatch.setattr(failure, "_has_no_network", lambda: False)
    assert hint(named) is None
    monkeypatch.setattr(failure, "_has_no_network", lambda: True)
    assert hint(wrapped) == hint(OSError(97, "Address family not supported")) == failure.NETWORK

    read_only = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "a/b/c"))
    assert f"write_paths=['{tmp_path}']" in str(hint(read_only))
    monkeypatch.setenv("HOME", "/")
    assert hint(OSError(errno.EROFS, "Read-only file system", "/.cache")) == failure.NO_HOME

    denied = PermissionError(errno.EACCES, "Permission denied", "/srv/app/file")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(failure, "_has_no_capabilities", lambda: False)
    assert hint(denied) is None
    monkeypatch.setattr(failure, "_has_no_capabilities", lambda: True)
    assert hint(denied) == failure.ROOT
    monkeypatch.setattr(failure, "_is_hidden", lambda path: path.startswith("/home/"))
    assert hint(FileNotFoundError(errno.ENOENT, "No", "/home/a/b")) == failure.HOMES_HIDDEN
    assert hint(ValueError("no")) is None
    assert hint(SerenoError("no")) is None


def test_one_line_has_no_pointer_at_a_place_in_a_line_above() -> None:
    with pytest.raises(InvalidTrigger) as refused:
        CronTrigger.from_expression("0 25 * * *")
    assert summary(refused.value) == "hour: '25' is out of range: 0 to 23"
