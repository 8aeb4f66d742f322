"""A small HTTP server on loopback that serves a folder as the survey's archive does, with faults on request."""

from __future__ import annotations

import re
import threading
import time
import zlib
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
        path of another file that is sent instead, an HTTP status, 'headers' (a header now and then, without end),
        'untagged' (truncated, and without ETag), or (status, headers, body), where an empty body means one without end
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
            if isinstance(fault, tuple):
                status, headers, body = fault
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.close_connection = True
                for _ in range(1 if body else 100_000):
                    self.wfile.write(body or bytes(2**16))
                return
            if fault == "headers":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for number in range(1000):
                    self.wfile.write(f"X-{number % 50}: y".encode())
                    time.sleep(0.05)
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
            tag = f'"{zlib.crc32(content)}"'
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if self.headers.get("If-Range", tag) != tag:
                asked = None  # another version by now: all of it
            start = int(asked[1]) if asked else 0
            if asked:
                archive.ranges.append(asked[0])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if fault != "untagged":
                self.send_header("ETag", tag)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault in ("truncated", "untagged"):
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
