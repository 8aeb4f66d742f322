"""Access control for a page served on this machine: a token, the right host and origin, and strict cookies."""

from __future__ import annotations

import secrets
from http.cookies import CookieError
from typing import Any
from urllib.parse import quote

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher
from tornado.web import RequestHandler

_WELCOME = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/"><title>StarCLIP</title>'


class TokenAuth(Matcher):
    """Matches the requests to refuse: put it in front of all other routes, with `TokenHandler` as its handler.

    A request passes with the cookie that the token buys, if its host is this machine (a rebound name is refused) and it
    does not come from a page of another origin, other ports of this machine included.
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
        if not self._is_local(request) or request.headers.get("Sec-Fetch-Site", "none") not in (
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
        return right and request.method == "GET" and request.path == "/" and self._is_local(request)

    def _is_local(self, request: HTTPServerRequest) -> bool:
        hosts, origins = request.headers.get_list("Host"), request.headers.get_list("Origin")
        return len(hosts) == 1 and hosts[0] in self._hosts and origins in ([], [f"http://{hosts[0]}"])

    def set_cookies(self, handler: RequestHandler) -> None:
        """Set the cookie after a request with the token."""
        handler.set_cookie(self.cookie, self._pass, httponly=True, samesite="Strict", path="/")
        handler.set_cookie(
            "_xsrf", handler.xsrf_token, samesite="Strict", path="/"
        )  # for the request that ends the kernel with its page


class TokenHandler(RequestHandler):
    """Answers requests without a valid cookie: one with the token gets the cookie, all others are refused."""

    def initialize(self, auth: TokenAuth) -> None:
        """Called by tornado with the handler's arguments."""
        self._auth = auth

    def prepare(self) -> None:
        """Answer whatever the method of the request is."""
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        if self._auth.brings_token(self.request):
            self._auth.set_cookies(self)
            self.finish(_WELCOME)
            return
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish("Not allowed: open the address that `starclip browse` has printed, with its token.\n")
