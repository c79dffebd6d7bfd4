"""What root runs where others may write acts by descriptor: each call by path is in a table, with why it may be."""

from __future__ import annotations

import ast
from pathlib import Path

SERENO = Path(__file__).resolve().parents[1] / "lib/sereno"
MODULES = (
    *sorted(path.relative_to(SERENO).as_posix() for path in (SERENO / "cache").glob("*.py")),
    *(
        "cli/cache.py",
        "observe/doctor/cache.py",
        "observe/report/writing.py",
        "records/files.py",
        "records/metrics.py",
        "units/traces.py",
    ),
)
# Functions of os that take a path; so do all of shutil's, some of tempfile's, `open`, and the methods of a Path.
OF_OS = {
    *("access", "chmod", "chown", "lchown", "link", "listdir", "lstat", "makedirs", "mkdir", "mkfifo", "mknod"),
    *("open", "readlink", "remove", "removedirs", "rename", "renames", "replace", "rmdir", "scandir", "setxattr"),
    *("stat", "statvfs", "symlink", "truncate", "unlink", "utime", "walk", "chdir"),
}  # fmt: skip
OF_OS_PATH = {"exists", "lexists", "isfile", "isdir", "islink", "getsize", "getmtime", "realpath"}
OF_A_PATH = {
    *("chmod", "exists", "is_dir", "is_file", "is_symlink", "iterdir", "glob", "rglob", "lstat", "mkdir", "open"),
    *("read_bytes", "read_text", "rename", "resolve", "rmdir", "stat", "symlink_to", "touch", "unlink", "write_bytes"),
    "write_text",
}  # fmt: skip
OF_LMDB = {"open"}
KERNEL, LOOK, OWN = (
    "of the kernel's",
    "looks, and nothing follows from it but an error",
    "its own process's",
)
ALLOWED = {
    (
        "cache/as_owner.py",
        "_nearest",
        "os.lstat",
    ): "looks: whose the directory is; as him all else is done",
    ("cache/as_owner.py", "look", "os.listdir"): "names alone, as the owner",
    ("cache/as_owner.py", "status", "os.lstat"): LOOK,
    ("cache/damage.py", "_rename", "os.listdir"): "names alone, for renaming by descriptor",
    ("cache/clock.py", "boot_id", "open"): KERNEL,
    ("cache/clock.py", "offset_ms", "open"): KERNEL,
    ("cli/cache.py", "_ask", "os.lstat"): LOOK,
    (
        "cache/damage.py",
        "_pages_held",
        "lmdb.open",
    ): "a path that leads to descriptors (files.only_these)",
    ("cache/files.py", "_is_in_use", "os.stat"): LOOK,
    (
        "cache/directory.py",
        "_create",
        "os.path.isdir",
    ): "looks; what is made is judged when it is opened",
    ("cache/directory.py", "_create", "os.stat"): "looks: the modes for a directory below it",
    ("cache/locks.py", "_holder", "open"): KERNEL,
    ("cache/place.py", "default_path", "os.access"): LOOK,
    ("cache/place.py", "default_path", "os.path.isdir"): LOOK,
    ("cache/place.py", "filesystem_type", "open"): KERNEL,
    ("cache/place.py", "server_url", "open"): "systemd's own directory, for this run alone",
    ("cache/place.py", "filesystem_type", "os.path.realpath"): LOOK,
    ("cache/place.py", "_is_ours", "os.stat"): LOOK,
    ("cache/place.py", "resolved", "os.lstat"): "looks; judged once more when it is opened",
    (
        "cache/place.py",
        "resolved",
        "os.path.realpath",
    ): "looks; judged once more when it is opened",
    ("cache/place.py", "_group_of", "os.stat"): LOOK,
    ("cache/reports.py", "warn_of_a_private_one", "os.path.isdir"): LOOK,
    ("cache/store.py", "_has_no_room", "os.statvfs"): LOOK,
    ("cache/store.py", "_map_privately", "open"): KERNEL,
    (
        "cache/store.py",
        "_open",
        "lmdb.open",
    ): "a path that leads to descriptors (files.only_these)",
    ("observe/doctor/cache.py", "cache_facts", "os.path.isdir"): LOOK,
    ("observe/doctor/cache.py", "cache_facts", "path.exists"): LOOK,
    ("observe/doctor/cache.py", "cache_facts", "place.is_dir"): "looks, in a user's own scope",
    (
        "units/traces.py",
        "delete",
        "os.open",
    ): "once, not through a link; what is deleted is named in it",
    (
        "observe/report/writing.py",
        "_is_written_through",
        "os.lstat",
    ): "looks: nobody else may change the way to it",
    (
        "observe/report/writing.py",
        "_is_written_through",
        "os.open",
    ): "once, and nothing is cut; judged by what was opened",
    (
        "records/files.py",
        "content",
        "os.open",
    ): "once; judged by what was opened, and not waited for",
    ("records/metrics.py", "__init__", "os.path.exists"): LOOK,
    ("records/metrics.py", "write", "os.path.exists"): "looks; what is not there is not made",
    ("records/files.py", "replace", "os.open"): "makes a new file or fails",
    ("records/files.py", "replace", "os.rename"): "takes a place, whatever is there",
    ("records/files.py", "replace", "os.unlink"): "of a name, whatever is there",
}


class Calls(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: set[tuple[str, str]] = set()
        self._functions = [""]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        is_by_descriptor = {"dir_fd", "src_dir_fd"} & {word.arg for word in node.keywords}
        first = ast.unparse(node.args[0]) if node.args else ""
        is_descriptor = (
            first in ("fd", "descriptor", "here")
            or first.endswith(".fd")
            or first.startswith("os.open(")
        )
        if _takes_a_path(name) and not is_by_descriptor and not is_descriptor:
            self.found.add((self._functions[-1], name))
        self.generic_visit(node)


def _takes_a_path(name: str) -> bool:
    of, _, last = name.rpartition(".")
    match of:
        case "":
            return name == "open"
        case "os":
            return last in OF_OS
        case "os.path":
            return last in OF_OS_PATH
        case "shutil" | "tempfile":
            return True
        case "lmdb":
            return last in OF_LMDB
    # A Path by its name, for what its type is nobody says here.
    return of in ("path", "place", "target", "file", "Path") and last in OF_A_PATH


def calls(module: str) -> set[tuple[str, str, str]]:
    visitor = Calls()
    visitor.visit(ast.parse((SERENO / module).read_text("utf-8")))
    return {(module, function, name) for function, name in visitor.found}


def test_no_call_by_path_enters_the_code_that_root_runs_in_others_directories() -> None:
    found = set().union(*map(calls, MODULES))
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set()


def test_a_new_call_by_path_would_be_seen(tmp_path: Path, monkeypatch) -> None:
    code = "import os\ndef f(path, fd):\n    os.{0}\n    os.stat(path, dir_fd=fd)\n"
    monkeypatch.setattr(f"{__name__}.SERENO", tmp_path)
    for call in ("truncate(path, 0)", "rename(path, path)", "path.realpath(path)"):
        (tmp_path / "m.py").write_text(code.format(call))
        assert calls("m.py") == {("m.py", "f", f"os.{call.partition('(')[0]}")}
