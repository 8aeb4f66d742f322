"""HTTP with limits: on the time of headers, the number of redirections, and what answers may claim."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPException
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from starclip_lib.support.errors import DataError, one_line

_MAX_REDIRECTS = 5
_HEADERS = 3  # times the longest wait for a byte: as long as headers may take
LONGEST_TAG = 1000  # characters of an ETag


class Transient(Exception):
    """A fault that may pass; `wait` is how long the server asks us to wait, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0, answered: bool = True):
        super().__init__(reason)
        self.wait, self.answered = wait, answered


def session_of(timeout: float, agent: str) -> requests.Session:
    """A session for downloads; `timeout` is in seconds."""
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(_HEADERS * timeout))
    # "identity": a compressed transfer would have another length than the file.
    session.headers.update({"User-Agent": agent, "Accept-Encoding": "identity"})
    return session


class _Session(requests.Session):
    """A session that leaves redirections to the caller: requests would read a body without end to follow one."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # type: ignore[override]
        return None


class _Adapter(HTTPAdapter):
    """Connections on which the headers of an answer have to be complete within `seconds`.

    The timeout of requests is for each read, so a server that sends a byte now and then would never be given up.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        kind = HTTPSConnection if pool.scheme == "https" else HTTPConnection
        pool.ConnectionCls = _limited(kind, self._seconds)
        return pool


@cache
def _limited(kind: type[HTTPConnection], seconds: float) -> type[HTTPConnection]:
    class Limited(kind):  # type: ignore[valid-type, misc]
        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            late = threading.Event()

            def give_up() -> None:
                late.set()
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)

            timer = threading.Timer(seconds, give_up)
            timer.daemon = True
            timer.start()
            try:
                answer = super().getresponse(*args, **kwargs)
            finally:
                timer.cancel()
            if late.is_set():  # http.client takes headers that break off for complete ones
                raise HTTPException(f"its headers do not end within {seconds:g} s")
            return answer

    return Limited


def answer_of(session: requests.Session, url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """The answer at the end of a few redirections, whose bodies are not read."""
    place = url
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            answer = session.get(place, headers=headers, stream=True, timeout=(10, timeout))
        except requests.exceptions.InvalidHeader:
            raise
        except ValueError as error:  # of an address that a server has named
            raise DataError(f"{url}: it leads to {one_line(place)[:80]!r}, which is not an address") from error
        target = answer.headers.get("Location", "")
        if not answer.is_redirect:
            return answer
        answer.close()
        with suppress(ValueError):
            place = urljoin(place, target)
            if urlsplit(place).scheme in ("http", "https"):
                continue
        raise DataError(f"{url}: it leads to {one_line(target)[:80]!r}, which is not an address")
    raise DataError(f"{url}: more than {_MAX_REDIRECTS} redirections")


def version_of(answer: requests.Response) -> str:
    """What tells this version of a file from others: a strong ETag, or the date of its last change; else ''."""
    etag = answer.headers.get("ETag", "")
    found = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
    return found if len(found) < LONGEST_TAG and found.isascii() and found.isprintable() else ""


def begins_at(answer: requests.Response) -> int | None:
    """The first byte of a part of a file; None if the server does not tell."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""), re.ASCII)
    return int(match[1]) if match else None


def full_size(answer: requests.Response) -> int | None:
    """Bytes of the whole file, or None if the server does not tell."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d{1,18})", answer.headers.get("Content-Range", ""), re.ASCII)
        return int(match[1]) if match else None
    length = answer.headers.get("Content-Length")
    if length is None:
        return None
    if not re.fullmatch(r"\d{1,18}", length.strip(), re.ASCII):
        raise Transient(f"its Content-Length is {one_line(length)[:40]!r}, which is not a number of bytes")
    return int(length)


def wait_of(after: str) -> float:
    """How long a server asks us to wait, in seconds or until a date; 0 if it cannot be read."""
    if re.fullmatch(r"\d{1,9}", after.strip(), re.ASCII):
        return float(after)
    try:
        date = parsedate_to_datetime(after)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def no_connection(error: requests.RequestException) -> bool:
    """True if the server was not even reached."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError) or isinstance(
        cause, urllib3.exceptions.NewConnectionError
    )


def reason_of(error: requests.RequestException) -> str:
    """The innermost cause, without the object's name in front of it."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    text = re.sub(r"^\w+\(.*?\): ", "", " ".join(str(cause or error).split()))
    return text if len(text) < 160 else f"{text[:160]}..."
