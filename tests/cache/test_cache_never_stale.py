"""A read that begins after a write has returned never gives what was there before, whoever dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sereno.cache import MetadataCache

HERE = Path(__file__).parent
LIB = HERE.parents[1] / "lib"
KEYS = 60
READERS = WRITERS = 2
SECONDS = 240.0 if os.environ.get("SERENO_TEST_LONG") == "1" else 2.0
READS = 10_000_000 if SECONDS > 100 else 20_000


def start(
    role: str, directory: Path, first: int, count: int, seconds: float, check: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(
                sys.executable,
                HERE / "stale_worker.py",
                role,
                directory / "cache",
                directory / "oracle",
            ),
            *(str(first), str(count), str(seconds), check),
        ],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contest(directory: Path, seconds: float, check: str) -> tuple[int, int, int]:
    """Runs readers beside writers that are killed and replaced; returns reads, wrong reads and kills."""
    (directory / "oracle").write_bytes(bytes(16 * KEYS))
    MetadataCache(directory / "cache", max_size=KEYS - 10).set("open", 1)
    share = KEYS // WRITERS

    def start_writer(number: int) -> subprocess.Popen[str]:
        process = start("write", directory, number * share, share, 1000, "on")
        # On a busy machine it takes longer to start than it lives.
        process.stdout.readline()
        return process

    writers = [start_writer(number) for number in range(WRITERS)]
    readers = [start("read", directory, 0, KEYS, seconds, check) for _ in range(READERS)]
    kills = 0
    try:
        while any(reader.poll() is None for reader in readers):
            time.sleep(random.uniform(0.05, 0.4))
            number = random.randrange(WRITERS)
            writers[number].send_signal(signal.SIGKILL)
            writers[number].communicate()
            kills += 1
            writers[number] = start_writer(number)
    finally:
        for process in writers:
            process.kill()
            process.communicate()
    reads = wrong = 0
    for reader in readers:
        out, err = reader.communicate()
        assert reader.returncode == 0, err
        done, bad = map(int, out.split())
        reads, wrong = reads + done, wrong + bad
    return reads, wrong, kills


@pytest.mark.oracle
def test_no_read_is_stale_while_writers_are_killed(tmp_path):
    reads, wrong, kills = contest(tmp_path, SECONDS, "on")
    assert wrong == 0
    assert reads > READS
    assert kills > SECONDS / 2


@pytest.mark.oracle
def test_the_oracle_sees_stale_reads_when_the_generation_check_is_off(tmp_path):
    _, wrong, _ = contest(tmp_path, 1.0, "off")
    assert wrong > 0
