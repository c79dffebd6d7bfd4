"""One HTTP POST with a time limit, and what its failure is called. The standard library's client is enough for it."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sereno import __version__

# The answer is not looked at; a part is read so that a server that is still writing is not cut off.
_READ_BYTES = 4096


class PostError(Exception):
    """It did not arrive. `str()` says why, without the URL, which may hold a secret.

    Attributes:
        passing: whether another try has a chance: no answer, or one that means "not now".
    """

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would become a GET without its body: an error instead (urllib's own rule, RFC 9110)."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
    """Send `body` to an http or https URL; user and password in it become an Authorization header.

    `timeout_s` is the limit of each wait for the network, not of the whole: the caller bounds that. `https_proxy` and
    its kin in the environment are heeded.

    Raises:
        PostError: no answer, or one that is not a success (2xx).
    """
    parts = urlsplit(url)
    sent = {"User-Agent": f"sereno/{__version__}", **headers}
    if "@" in parts.netloc:
        from base64 import b64encode

        secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        sent["Authorization"] = "Basic " + b64encode(secret.encode()).decode("ascii")
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = Request(urlunsplit(parts), data=body, headers=sent, method="POST")
    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout_s) as answer:
            answer.read(_READ_BYTES)
    except HTTPError as error:
        # RFC 9110: request timeout, too many requests, and the server's own failures.
        error.close()
        raise PostError(
            f"{parts.hostname}: HTTP {error.code} {error.reason}",
            passing=error.code in (408, 425, 429) or error.code >= 500,
        ) from None
    except URLError as error:
        raise PostError(f"{parts.hostname}: {error.reason}", passing=True) from None
    except (OSError, HTTPException, ValueError) as error:
        raise PostError(
            f"{parts.hostname}: {type(error).__name__}: {error}".rstrip(": "),
            passing=not isinstance(error, ValueError),
        ) from None
