"""sereno: periodic Python jobs on systemd timers, with a metadata cache that all processes of a machine share.

Public names, loaded when they are first used: a job's run imports only what it needs.
"""

from os.path import realpath
from sys import executable, modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.cache import MetadataCache as MetadataCache
    from sereno.cache import get_metadata_cache as get_metadata_cache
    from sereno.errors import SerenoError as SerenoError
    from sereno.run.claiming import fence as fence
    from sereno.run.credentials import credential as credential
    from sereno.scheduler import Scheduler as Scheduler
    from sereno.scheduler import get_scheduler as get_scheduler

__version__ = "0.2.0"

# A backend finds sereno by a link, which an upgrade switches: what a process imports late is of the same release.
__path__ = [realpath(path) for path in __path__]

_HOMES = {
    "MetadataCache": "sereno.cache",
    "get_metadata_cache": "sereno.cache",
    "Scheduler": "sereno.scheduler",
    "get_scheduler": "sereno.scheduler",
    "SerenoError": "sereno.errors",
    "credential": "sereno.run.credentials",
    "fence": "sereno.run.claiming",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # importlib would be a tenth of what the cleanup loads.
    try:
        __import__(_HOMES[name])
    except ModuleNotFoundError as error:
        from sereno.errors import MissingPackage

        raise MissingPackage(
            f"{name}: {executable} has no {error.name!r}",
            hint=f"{executable} -m pip install -r {realpath(__path__[0] + '/../requirements.txt')}",
        ) from error
    return getattr(modules[_HOMES[name]], name)
