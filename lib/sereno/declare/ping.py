"""`Ping`: the monitor that a job's runs tell of their start and end, as a validated value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sereno.declare.access import PATH_RULE
from sereno.declare.inputs import can_be_loaded
from sereno.errors import InvalidJob
from sereno.records.url import is_http_url


@dataclass(frozen=True, slots=True)
class Ping:
    """Where a monitor's check is called (`sereno.run.heartbeat`): `url`, or the first line of `file`; if anywhere."""

    url: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if self.url is not None and self.file is not None:
            raise InvalidJob("ping_url: given together with ping_url_file; give one of them")
        if self.url is not None and not is_http_url(self.url):
            raise InvalidJob(
                f"ping_url: {self.url!r} is not an http or https URL",
                hint="such as https://hc-ping.com/ and the check's UUID",
            )
        if self.file is not None and not can_be_loaded(self.file):
            raise InvalidJob(
                f"ping_url_file: {self.file!r} is not the path of a file with the URL",
                hint=PATH_RULE,
            )

    @property
    def is_wanted(self) -> bool:
        return self.url is not None or self.file is not None
