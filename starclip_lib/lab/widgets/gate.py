"""Who may enter a page served on this machine: a token, the right host and origin, and strict cookies."""

from __future__ import annotations

import secrets
from http.cookies import CookieError
from typing import Any
from urllib.parse import quote

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher
from tornado.web import RequestHandler

_WELCOME = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>StarCLIP</title>'


class Gate(Matcher):
    """Matches the requests that may *not* pass: put it in front of all other routes, with `Entrance` as its handler.

    A request passes with the cookie of somebody who came in by the token, if it names this machine as its host (so that
    a rebound name gets nothing) and does not come from a page of another origin, other ports of this machine included.

    Parameters
    ----------
    port : int
        Of the server.
    """

    def __init__(self, port: int):
        self.token, self._pass = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self.cookie = f"starclip-{port}"
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{port}/?token={quote(self.token)}"

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """None if a request may pass."""
        return None if self.admits(request) else {}

    def admits(self, request: HTTPServerRequest) -> bool:
        """Whether a request may pass."""
        if not self._is_from_here(request) or request.headers.get("Sec-Fetch-Site", "none") not in (
            "none",
            "same-origin",
        ):
            return False
        try:
            cookie = request.cookies.get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and secrets.compare_digest(cookie.value.encode(), self._pass.encode())

    def brings_token(self, request: HTTPServerRequest) -> bool:
        """Whether a request is for the front page, with the token in its address."""
        given = request.query_arguments.get("token", [b""])
        right = len(given) == 1 and secrets.compare_digest(given[0], self.token.encode())
        return right and request.method == "GET" and request.path == "/" and self._is_from_here(request)

    def _is_from_here(self, request: HTTPServerRequest) -> bool:
        hosts, origins = request.headers.get_list("Host"), request.headers.get_list("Origin")
        return len(hosts) == 1 and hosts[0] in self._hosts and origins in ([], [f"http://{hosts[0]}"])

    def let_in(self, handler: RequestHandler) -> None:
        """Give the cookie to somebody who brought the token."""
        handler.set_cookie(self.cookie, self._pass, httponly=True, samesite="Strict", path="/")
        handler.set_cookie("_xsrf", handler.xsrf_token, samesite="Strict", path="/")  # for the page's word of farewell


class Entrance(RequestHandler):
    """Answers requests without a valid cookie: those with the token get one, all others are refused."""

    def initialize(self, gate: Gate) -> None:
        """Take the gate that sent us a request."""
        self._gate = gate

    def prepare(self) -> None:
        """Answer before any method of ours is looked for."""
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        if self._gate.brings_token(self.request):
            self._gate.let_in(self)
            self.finish(_WELCOME)
            return
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("Not allowed. Open the address that `starclip browse` has printed, with its token.\n")
