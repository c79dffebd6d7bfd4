"""One server for the tests of a process, with empty tables for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _server() -> Iterator[Database]:
    database = Database()
    yield database
    database.close()


@pytest.fixture
def database(_server: Database) -> Database:
    _server.sql("truncate sereno.elapse, sereno.job, sereno.host")
    return _server
