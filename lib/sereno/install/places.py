"""Where an installation of sereno has its files, and what install.sh was asked to do with it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sereno.manager import scope
from sereno.manager.names import TARGET
from sereno.manager.scope import Scope

JOB = "cache_cleanup_hourly"
# Path → name below systemd/ of what a whole machine gets beside its units. systemd reads two directories of catalogues;
# the other one belongs to packages.
SYSTEM_FILES = {
    "/usr/local/lib/sysusers.d/sereno.conf": "sereno.sysusers",
    "/usr/local/lib/tmpfiles.d/sereno.conf": "sereno.tmpfiles",
    "/etc/needrestart/conf.d/sereno.conf": "needrestart.conf",
    "/usr/local/lib/systemd/catalog/sereno.catalog": "sereno.catalog",
    "/usr/local/lib/systemd/catalog/sereno.es.catalog": "sereno.es.catalog",
}


@dataclass(frozen=True, slots=True)
class Places:
    """All paths are those of the installed system; `at` says where they are now.

    Attributes:
        root: directory of the image that is staged, without a slash at its end; "" for this machine.
        prefix: where releases and their environments are.
        units: where the hand-written units go; `former_units`: where older versions had them.
        share: what shells and man(1) look for is below it; `command`: the link that people call.
        cache, state: data of runs, which only --purge removes.
    """

    scope: Scope
    root: str
    prefix: str
    units: str
    former_units: str
    share: str
    command: str
    cache: str
    state: str

    def at(self, path: str) -> str:
        return self.root + path

    @property
    def is_user(self) -> bool:
        return self.scope.is_user

    @property
    def generated(self) -> str:
        return str(self.scope.units)

    @property
    def home(self) -> str:
        """Where the prefix is now."""
        return self.at(self.prefix)

    @property
    def config(self) -> str:
        """Where an administrator writes; systemd's user units are beside it in the same way as the machine's."""
        return f"{self.scope.units.parents[1]}/sereno"

    @property
    def manifest(self) -> str:
        return f"{self.prefix}/manifest"

    @property
    def switch(self) -> str:
        """The link that starts all timers at boot."""
        return f"{self.generated}/timers.target.wants/{TARGET}"

    def links(self, release: str, pages: Iterable[str]) -> dict[str, str]:
        """Path → target, `pages` those of the manual; `current` is what switches people's commands over."""
        code = f"{self.prefix}/current"
        shells = f"{code}/lib/sereno/cli/shells/sereno"
        found = {
            f"{self.prefix}/current": f"releases/{release}",
            f"{self.prefix}/bin": "current/bin",
            f"{self.prefix}/lib": "current/lib",
            self.command: f"{self.prefix}/bin/sereno",
            f"{self.share}/bash-completion/completions/sereno": f"{shells}.bash",
            f"{self.share}/fish/vendor_completions.d/sereno.fish": f"{shells}.fish",
        }
        for page in pages:
            place = f"man/man{page[-1]}/{page}"
            found[f"{self.share}/{place}"] = f"{code}/systemd/man/{page}"
        if not self.is_user:
            found[f"{self.share}/zsh/site-functions/_sereno"] = f"{shells}.zsh"
        return found


def choose(*, user: bool, root: str, prefix: str, euid: int, environ: Mapping[str, str]) -> Places:
    """The places of an installation; `prefix` "" means the usual one.

    Raises:
        NotAvailable: a user's, and there is no home directory.
    """
    found = scope.choose("user" if user else "system", root=None, euid=euid, environ=environ)
    if not user:
        # systemd reads its units before it mounts anything but the root file system and /usr: not in /usr/local.
        return Places(
            found, root, prefix or "/opt/sereno", str(found.units),
            former_units="/usr/local/lib/systemd/system", share="/usr/local/share",
            command="/usr/local/bin/sereno", cache="/var/cache/sereno", state="/var/lib/sereno",
        )  # fmt: skip
    home = Path(environ["HOME"])
    data = scope.xdg(environ, "XDG_DATA_HOME", home / ".local/share")
    units = str(data / scope.USER_UNITS)
    return Places(
        found, "", prefix or f"{data}/sereno", units, former_units=units, share=str(data),
        command=f"{home}/.local/bin/sereno",
        cache=f"{scope.xdg(environ, 'XDG_CACHE_HOME', home / '.cache')}/sereno",
        state=f"{home}/.local/state/sereno",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """What install.sh was asked for.

    Attributes:
        code: the tree whose units are installed: a release, or the checkout.
        answers: the directory in which install.sh looks for what it is told.
        release: name of the directory below `releases` that is to be current.
        manager: "running", "absent" (systemd is not process 1 here) or "staged" (an image).
        changed: whether install.sh has changed something already.
        environment: directory of the Python environment that was made.
        interpreter: path and version of Python.
    """

    places: Places
    code: Path
    answers: Path
    release: str
    manager: str
    start: bool
    dry_run: bool
    uninstall: bool
    purge: bool
    changed: bool
    environment: str
    interpreter: str

    def answer(self, name: str, *words: str, end: str = "\n") -> None:
        (self.answers / name).write_text("".join(word + end for word in words), "utf-8")

    @property
    def running(self) -> bool:
        return self.manager == "running"

    @property
    def scope_option(self) -> str:
        return f"--{self.places.scope.name}"

    @property
    def offline(self) -> list[str]:
        """What makes systemctl and `sereno` work on the files alone, where there is no manager."""
        return [] if self.running else [f"--root={self.places.root or '/'}"]

    @property
    def systemctl(self) -> list[str]:
        return ["systemctl", *(self.offline or [self.scope_option])]


def order(told: Mapping[str, str], code: Path, euid: int, environ: Mapping[str, str]) -> Order:
    """The order that install.sh's variables mean; what it does not name is no or nothing."""
    text = defaultdict(str, told)
    yes = {name for name in told if told[name] == "yes"}
    places = choose(
        user="user" in yes, root=text["root"], prefix=text["prefix"], euid=euid, environ=environ
    )
    return Order(
        places, code, Path(text["tmp"]), text["release"], text["manager"], start="start" in yes,
        dry_run="dry_run" in yes, uninstall="uninstall" in yes, purge="purge" in yes,
        changed="changed" in yes, environment=text["environment"],
        interpreter=f"{text['python']} {text['python_version']}",
    )  # fmt: skip
