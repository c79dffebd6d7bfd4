"""Three machines share one cache, through a server's socket that is bound into each of them."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parents[1] / "cache"))

from cache_server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machine import Machine

AT = "/srv/server"
URL = f"unix://{AT}/s0?timeout=10"
# Jobs and backends have libvalkey of the interpreter that runs the tests.
ENVIRONMENT = {"SERENO_CACHE_URL": URL, "PYTHONPATH": "/opt/sereno/lib:/libraries"}
COMPUTING = """
import sys, time
from sereno import get_metadata_cache
@get_metadata_cache().memoize(name="slow")
def slow():
    time.sleep(2)
    return sys.argv[1]
print(slow())
"""


@pytest.fixture
def hosts(
    boot: Callable[..., Machine], installed_layers: tuple[Path, ...], tmp_path: Path
) -> Iterator[list[Machine]]:
    with ExitStack() as stack:
        directory = tmp_path / "server"
        stack.enter_context(Server(directory, "maxmemory 100mb", "maxmemory-policy volatile-lfu"))
        # The users of the machines reach its socket and nothing else.
        for path in (directory, *directory.parents[:3]):
            path.chmod(path.stat().st_mode | 0o011)
        binds = {AT: directory}
        yield [stack.enter_context(boot(*installed_layers, binds=binds)) for _ in range(3)]


def python(host: Machine, code: str, *arguments: str) -> str:
    return host.run(
        *("/opt/sereno/current/venv/bin/python", "-c", code, *arguments), env=ENVIRONMENT
    ).stdout.strip()


def cache(host: Machine, call: str) -> object:
    code = f"import json, sereno; print(json.dumps(sereno.get_metadata_cache().{call}))"
    return json.loads(python(host, code))


@pytest.mark.first_systemd
def test_three_machines_share_one_cache(hosts: list[Machine]) -> None:
    first, second, third = hosts
    version = python(first, "import sys; print(*sys.version_info[:2], sep='.')")
    if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"libvalkey is here for Python {sys.version_info[:2]}, there is {version}")
    cache(first, "set('price', [1, 2])")
    assert [cache(host, "get('price')") for host in hosts] == [[1, 2]] * 3
    assert cache(third, "invalidate('price')") is True
    assert [cache(host, "get('price')") for host in hosts] == [None] * 3
    assert [cache(host, "incr('n')") for host in hosts] == [1, 2, 3]
    with ThreadPoolExecutor() as pool:
        said = set(pool.map(python, hosts, [COMPUTING] * 3, "123"))
    assert len(said) == 1
    assert cache(second, "get_stats()['total_requests']") >= 9
    # The cleanup's job, in its sandbox, which has no network.
    drop_in = "/etc/systemd/system/sereno@cache_cleanup_hourly.service.d/server.conf"
    lines = [f'Environment="{name}={value}"' for name, value in ENVIRONMENT.items()]
    site = f"/opt/sereno/current/venv/lib/python{version}/site-packages"
    second.run("cp", "-r", "/libraries/libvalkey", site)
    second.run("mkdir", "-p", drop_in.rpartition("/")[0])
    second.write(drop_in, "\n".join(["[Service]", *lines, ""]))
    second.run("systemctl", "daemon-reload")
    second.run("systemctl", "start", "sereno@cache_cleanup_hourly.service", check=False)
    said = [record["MESSAGE"] for record in second.journal("SERENO_JOB=cache_cleanup_hourly")]
    assert any("Limpieza completada: 0 entradas" in line for line in said), said
    assert second.show("sereno@cache_cleanup_hourly.service", "Result")["Result"] == "success", (
        said[-2:]
    )
