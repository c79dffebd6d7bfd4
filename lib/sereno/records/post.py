"""One HTTP POST with a time limit, and what its failure is called. The standard library's client is enough for it."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sereno import __version__
from sereno.records.url import secrets_of, without

# The answer is not looked at; a part is read so that a server that is still writing is not cut off.
_READ_BYTES = 4096
# Of what a server says: it may say anything.
_SHOWN_CHARACTERS = 200


class PostError(Exception):
    """It did not arrive. `str()` says why, without the URL, which may hold a secret.

    Attributes:
        passing: whether another try has a chance: no answer, or one that means "not now".
    """

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would become a GET without its body (RFC 9110): an error, before Location is looked at."""

    def http_error_302(self, *_: object, **__: object) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
    """Send `body` to an http or https URL; user and password in it become an Authorization header.

    `timeout_s` is the limit of each wait for the network, not of the whole: the caller bounds that. `https_proxy` and
    its kin in the environment are heeded. Raises PostError: no answer, or one that is not a success (2xx).
    """
    parts = urlsplit(url)
    sent = {"User-Agent": f"sereno/{__version__}", **headers}
    if "@" in parts.netloc:
        from base64 import b64encode

        secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        sent["Authorization"] = "Basic " + b64encode(secret.encode()).decode("ascii")
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    request = Request(urlunsplit(parts), data=body, headers=sent, method="POST")
    hidden = [
        *secrets_of(url.replace(parts.hostname or "", "")),
        *(word for value in headers.values() for word in value.split()),
    ]

    def error(said: object, *, passing: bool) -> PostError:
        text = without(str(said).strip(), hidden, _SHOWN_CHARACTERS)
        return PostError(f"{parts.hostname}: {text}", passing=passing)

    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout_s) as answer:
            answer.read(_READ_BYTES)
    except HTTPError as refusal:
        refusal.close()
        # RFC 9110: request timeout, too many requests, and the server's own failures.
        passing = refusal.code in (408, 425, 429) or refusal.code >= 500
        raise error(f"HTTP {refusal.code} {refusal.reason}", passing=passing) from None
    except URLError as failure:
        raise error(failure.reason, passing=True) from None
    except (OSError, HTTPException, ValueError) as failure:
        said = f"{type(failure).__name__}: {failure}".rstrip(": ")
        raise error(said, passing=not isinstance(failure, ValueError)) from None
