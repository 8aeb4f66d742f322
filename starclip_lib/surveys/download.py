"""Downloads that can be stopped and go on: few at a time, tried again, and under their name only when whole."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from tqdm.auto import tqdm

from starclip_lib import __version__
from starclip_lib.data.fits_files import SPECTRUM_BYTES
from starclip_lib.errors import DataError, StarclipError, one_line
from starclip_lib.files import size_text

_CHUNK = 1 << 20  # bytes
_SLOWEST = 1000.0  # bytes a second, once the time limit for a single byte has passed
GIVE_UP = 20  # files
_MAX_WAIT = 60.0  # seconds between two attempts, at most


class Missing(StarclipError):
    """The server has no such file."""


class Unreachable(StarclipError):
    """No answer from the server at all."""


class _Transient(Exception):
    """Something that may be over in a moment; `wait` is how long the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0, answered: bool = True):
        super().__init__(reason)
        self.wait, self.answered = wait, answered


class Downloader:
    """How to download.

    Parameters
    ----------
    timeout : float
        Seconds without a byte after which an attempt has failed.
    attempts : int
        How often a file is tried.
    pause : float
        Seconds before the second attempt, doubled before each further one.
    connections : int
        Files fetched at the same time by `fetch_all`.
    largest : int
        Bytes of a file; what is larger, or has no end, is not fetched.
    """

    def __init__(
        self,
        timeout: float = 60.0,
        attempts: int = 5,
        pause: float = 1.0,
        connections: int = 4,
        largest: int = SPECTRUM_BYTES,
    ):
        self.timeout, self.attempts, self.connections, self.largest = timeout, attempts, connections, largest
        self._stop = threading.Event()  # set when `fetch_all` is given up, so that no thread waits for its next attempt
        self._backoff = tenacity.wait_exponential_jitter(multiplier=pause, max=_MAX_WAIT, jitter=pause)
        self._session = requests.Session()
        # "identity": a compressed transfer would have another length than the file.
        self._session.headers.update({"User-Agent": f"starclip/{__version__}", "Accept-Encoding": "identity"})

    def fetch(self, url: str, path: Path, check: Callable[[Path], object], progress: bool = False) -> None:
        """Download `url` to `path`, unless it is there.

        What an interrupted call has received is kept beside `path` and completed by the next call.

        Parameters
        ----------
        url : str
        path : Path
        check : callable
            Is given the temporary file and raises DataError if that is bad.
        progress : bool
            Show a progress bar.

        Raises
        ------
        Missing, Unreachable
        DataError
            With the last reason when all attempts have failed.
        """
        if path.exists() and self._is_good(path, check):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        retrying = tenacity.Retrying(
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self.attempts), tenacity.stop_when_event_set(self._stop)
            ),
            wait=self._pause,
            sleep=tenacity.sleep_using_event(self._stop),
            retry=tenacity.retry_if_exception_type(_Transient),
            reraise=True,
        )
        try:
            retrying(self._attempt, url, path, check, progress)
        except _Transient as error:
            if not error.answered:
                server = urlsplit(url).netloc
                raise Unreachable(
                    f"no answer from {server} ({error}): is there a network, and is the address right? "
                    "The same command goes on from here"
                ) from error
            raise DataError(f"{url}: {error}, in each of {self.attempts} attempts") from error

    @staticmethod
    def _is_good(path: Path, check: Callable[[Path], object]) -> bool:
        """Whether a file of an earlier call is what it should be; if not, it is put aside, not trusted."""
        try:
            check(path)
        except DataError:
            path.replace(path.with_name(f"{path.name}.damaged"))
            return False
        return True

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: at least what the server asks for."""
        reason = state.outcome.exception() if state.outcome else None
        return min(max(self._backoff(state), reason.wait if isinstance(reason, _Transient) else 0.0), _MAX_WAIT)

    def _attempt(self, url: str, path: Path, check: Callable[[Path], object], progress: bool) -> None:
        part = path.with_name(f".{path.name}.part")
        have = part.stat().st_size if part.is_file() else 0
        try:
            headers = {"Range": f"bytes={have}-"} if have else {}
            with self._session.get(url, headers=headers, stream=True, timeout=(10, self.timeout)) as answer:
                self._judge(answer, url, part)
                if answer.status_code != 206:
                    have = 0
                size = _full_size(answer)
                if size is not None and size > self.largest:
                    raise DataError(f"{url}: {size_text(size)}, more than such a file has ({size_text(self.largest)})")
                began, got = time.monotonic(), have
                with (
                    part.open("ab" if have else "wb") as file,
                    tqdm(
                        total=size, initial=have, unit="B", unit_scale=True, desc=path.name, disable=not progress
                    ) as bar,
                ):
                    # read1: what is there now, so that a file that trickles is seen to
                    while chunk := answer.raw.read1(_CHUNK, decode_content=False):
                        file.write(chunk)
                        bar.update(len(chunk))
                        got += len(chunk)
                        if got > self.largest:
                            raise DataError(f"{url}: it does not end ({size_text(got)} so far)")
                        waited = time.monotonic() - began
                        if waited > self.timeout and got - have < _SLOWEST * waited:
                            raise _Transient(f"only {got - have:,} bytes in {waited:.0f} s")
        except DataError:
            part.unlink(missing_ok=True)
            raise
        except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise _Transient(f"no byte for {self.timeout:g} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise _Transient(one_line(str(error))[:160]) from error
        except requests.RequestException as error:
            raise _Transient(_reason(error), answered=not _no_connection(error)) from error
        got = part.stat().st_size
        if size is not None and got != size:
            if got > size:
                part.unlink()
            raise _Transient(f"truncated: {got:,} of {size:,} bytes")
        try:
            check(part)
        except DataError as error:
            part.unlink()
            raise _Transient(f"damaged: {str(error).replace(str(part), path.name)}") from error
        part.replace(path)

    @staticmethod
    def _judge(answer: requests.Response, url: str, part: Path) -> None:
        status = answer.status_code
        if status in (404, 410):
            raise Missing(f"{url}: the archive has no such file (HTTP {status})")
        if status == 416:  # what we have is as long as the file, or longer: begin anew
            part.unlink(missing_ok=True)
        if status in (408, 416, 429) or status >= 500:
            after = answer.headers.get("Retry-After", "")
            raise _Transient(f"HTTP {status} {answer.reason}", wait=float(after) if after.isdigit() else 0.0)
        if status not in (200, 206):
            raise DataError(f"{url}: HTTP {status} {answer.reason}")

    def fetch_all(
        self, jobs: Iterable[tuple[str, Path, Callable[[Path], object]]], what: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Download many files.

        Parameters
        ----------
        jobs : iterable of (str, Path, callable)
            Address, path and check of each, as for `fetch`.
        what : str
            What the progress bar says.

        Returns
        -------
        missing, failed : dict of str to str
            What the server does not have and what failed, each {url: reason}.

        Raises
        ------
        Unreachable
            As soon as no connection can be made for one file.
        DataError
            After `GIVE_UP` failures in a row: then the fault is not in the files.
        """
        waiting = list(jobs)
        missing: dict[str, str] = {}
        failed: dict[str, str] = {}
        in_a_row = 0
        pool = ThreadPoolExecutor(self.connections)
        try:
            running: dict[Future[None], str] = {pool.submit(self.fetch, *job): job[0] for job in waiting}
            with tqdm(total=len(running), unit="file", desc=what, disable=not running) as bar:
                for future in as_completed(running):
                    url = running[future]
                    try:
                        future.result()
                        in_a_row = 0
                    except Missing as error:
                        missing[url], in_a_row = str(error), 0
                    except DataError as error:
                        failed[url], in_a_row = str(error), in_a_row + 1
                        if in_a_row == GIVE_UP:
                            raise DataError(f"{GIVE_UP} files failed in a row, the last one was {error}") from error
                    bar.update()
        finally:  # after an error or Ctrl-C, nothing new begins and no attempt is repeated
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._stop.clear()
        return missing, failed


def _full_size(answer: requests.Response) -> int | None:
    """Bytes of the whole file, or None if the server does not say."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        return int(match[1]) if match else None
    length = answer.headers.get("Content-Length")
    return int(length) if length else None


def _no_connection(error: requests.RequestException) -> bool:
    """True if the server was not even reached."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError) or isinstance(
        cause, urllib3.exceptions.NewConnectionError
    )


def _reason(error: requests.RequestException) -> str:
    """The innermost cause, without the object's name in front of it."""
    cause = getattr(error.args[0], "reason", None) if error.args else None
    text = re.sub(r"^\w+\(.*?\): ", "", " ".join(str(cause or error).split()))
    return text if len(text) < 160 else f"{text[:160]}..."
