"""Downloads that can be stopped and resumed: few at a time, tried again, and under their name only when whole.

A part is resumed only if the server confirms, by ETag or date, that the file is the one that the part began; otherwise
the download starts at its first byte.  Time and size of headers, redirections and bodies are limited.
"""

from __future__ import annotations

import os
import stat
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
from starclip_lib.storage.fits_files import SPECTRUM_BYTES
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import size_text
from starclip_lib.survey.http import (
    LONGEST_TAG,
    Transient,
    answer_of,
    begins_at,
    full_size,
    no_connection,
    reason_of,
    session_of,
    version_of,
    wait_of,
)

_CHUNK = 1 << 20  # bytes
_SLOWEST = 1000.0  # bytes a second, once the time limit for a single byte has passed
GIVE_UP = 20  # files
_MAX_WAIT = 60.0  # seconds between two attempts, at most


class Missing(StarclipError):
    """The server has no such file."""


class Unreachable(StarclipError):
    """No answer from the server at all."""


class Downloader:
    """How to download.

    `timeout` is in seconds, without a byte; a file is tried `attempts` times, with `pause`
    seconds before the second attempt, doubled before each further one; `fetch_all` opens so many `connections`; what is
    `largest` (bytes) or larger is not fetched.
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
        self._session = session_of(timeout, f"starclip/{__version__}")

    def fetch(self, url: str, path: Path, check: Callable[[Path], object], progress: bool = False) -> None:
        """Download `url` to `path`, unless it is there; what an interrupted call has received is completed.

        `check` is given the temporary file and raises DataError if that is bad.  Raises Missing, Unreachable, or
        DataError with the last reason when all attempts have failed.
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
            retry=tenacity.retry_if_exception_type(Transient),
            reraise=True,
        )
        try:
            retrying(self._attempt, url, path, check, progress)
        except Transient as error:
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
        return min(max(self._backoff(state), reason.wait if isinstance(reason, Transient) else 0.0), _MAX_WAIT)

    def _attempt(self, url: str, path: Path, check: Callable[[Path], object], progress: bool) -> None:
        part, tag = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.tag")
        have, known = _begun(part, tag)
        headers = {"Range": f"bytes={have}-", "If-Range": known} if have else {}
        try:
            with answer_of(self._session, url, headers, self.timeout) as answer:
                self._judge(answer, url, part)
                size = full_size(answer)
                goes_on = have and begins_at(answer) == have and version_of(answer) == known
                if answer.status_code == 206 and not goes_on:
                    part.unlink(missing_ok=True)
                    raise Transient("the server sent another stretch, or another version, than it was asked for")
                if answer.status_code != 206:
                    have = 0
                    os.close(_own_file(part))
                    with os.fdopen(_own_file(tag), "w", encoding="utf-8") as note:
                        note.write(version_of(answer))
                if size is not None and size > self.largest:
                    raise DataError(f"{url}: {size_text(size)}, more than such a file has ({size_text(self.largest)})")
                began, got = time.monotonic(), have
                with (
                    part.open("ab") as file,
                    tqdm(
                        total=size, initial=have, unit="B", unit_scale=True, desc=path.name, disable=not progress
                    ) as bar,
                ):
                    # read1: what is there now, so that a file that trickles is noticed
                    while chunk := answer.raw.read1(_CHUNK, decode_content=False):
                        file.write(chunk)
                        bar.update(len(chunk))
                        got += len(chunk)
                        if got > self.largest:
                            raise DataError(f"{url}: it does not end ({size_text(got)} so far)")
                        waited = time.monotonic() - began
                        if waited > self.timeout and got - have < _SLOWEST * waited:
                            raise Transient(f"only {got - have:,} bytes in {waited:.0f} s")
        except DataError:
            part.unlink(missing_ok=True)
            raise
        except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise Transient(f"no byte for {self.timeout:g} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise Transient(one_line(str(error))[:160]) from error
        except requests.RequestException as error:
            raise Transient(reason_of(error), answered=not no_connection(error)) from error
        got = part.stat().st_size
        if size is not None and got != size:
            if got > size:
                part.unlink()
            raise Transient(f"truncated: {got:,} of {size:,} bytes")
        try:
            check(part)
        except DataError as error:
            part.unlink()
            raise Transient(f"damaged: {str(error).replace(str(part), path.name)}") from error
        part.replace(path)
        tag.unlink(missing_ok=True)

    @staticmethod
    def _judge(answer: requests.Response, url: str, part: Path) -> None:
        status, reason = answer.status_code, one_line(str(answer.reason))[:80]
        if status in (404, 410):
            raise Missing(f"{url}: the archive has no such file (HTTP {status})")
        if status == 416:  # what we have is as long as the file, or longer: start at the first byte
            part.unlink(missing_ok=True)
        if status in (408, 416, 429) or status >= 500:
            raise Transient(f"HTTP {status} {reason}", wait=wait_of(answer.headers.get("Retry-After", "")))
        if status not in (200, 206):
            raise DataError(f"{url}: HTTP {status} {reason}")

    def fetch_all(
        self, jobs: Iterable[tuple[str, Path, Callable[[Path], object]]], what: str
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Download many files, each an (address, path, check) as for `fetch`; `what` names them in the progress bar.

        What the server does not have, and what failed, each {url: reason}.  Raises Unreachable as soon as no connection
        can be made, DataError after `GIVE_UP` failures in a row: then the fault is not in the files.
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


def _begun(part: Path, tag: Path) -> tuple[int, str]:
    """Bytes of an earlier attempt that can be resumed, and the ETag or date of the file that they belong to."""
    try:
        status = os.lstat(part)
        with tag.open(encoding="utf-8") as file:
            known = file.read(LONGEST_TAG)
    except (OSError, UnicodeError):
        return 0, ""
    if not known or not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:  # a link: what it leads to is not ours
        return 0, ""
    return status.st_size, known


def _own_file(path: Path) -> int:
    """An empty file of our own under a name: whatever had it, a link for instance, is removed and not written to."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
