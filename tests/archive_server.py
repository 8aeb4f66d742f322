"""A small HTTP server on loopback that serves a folder as the survey's archive does, with faults on request."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Archive:
    """What is served, and what went over the wire.

    faults : path in the archive to a list of faults, used up one a request: 'truncated', 'slow', 'damaged', 'shut'
        (the connection closes without an answer), 'endless', 'trickle' (a byte now and then), 'huge' (so it says), the
        path of another file that is sent instead, or an HTTP status
    """

    def __init__(self, folder: Path):
        self.folder, self.faults = folder, {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serve(folder: Path) -> Iterator[Archive]:
    archive = Archive(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with archive.lock:
                archive.at_once += 1
                archive.most_at_once = max(archive.most_at_once, archive.at_once)
            try:
                self.answer()
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up on a slow file
            finally:
                with archive.lock:
                    archive.at_once -= 1

        def answer(self) -> None:
            place = unquote(self.path).lstrip("/")
            archive.requests[place] += 1
            waiting = archive.faults.get(place, [])
            fault = waiting.pop(0) if waiting else None
            path = archive.folder / place
            if fault is None and not path.is_file():
                fault = 404
            if isinstance(fault, int):
                self.send_response(fault)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "shut":
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(1.0)
            if fault in ("endless", "trickle", "huge"):
                self.send_response(200)
                if fault == "huge":
                    self.send_header("Content-Length", str(10**15))
                self.end_headers()
                self.close_connection = True
                for _ in range(10_000):
                    self.wfile.write(b"x" if fault == "trickle" else bytes(2**16))
                    time.sleep(0.02 if fault == "trickle" else 0)
                return
            if isinstance(fault, Path):
                path = fault
            content = path.read_bytes()
            if fault == "damaged":
                content = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
                content = b"XXXX" + content[4:]
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            if asked:
                archive.ranges.append(asked[0])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "truncated":
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    archive.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
