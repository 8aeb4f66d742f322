"""The gate of the similarity browser's server: who passes, and who is turned away."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from starclip_lib.lab.widgets.gate import TokenAuth

PORT = 8866
HOST = f"127.0.0.1:{PORT}"


@pytest.fixture
def auth() -> TokenAuth:
    return TokenAuth(PORT)


class Visitor:
    """Stands for a handler: it keeps the cookies that it is given."""

    xsrf_token = b"x"

    def __init__(self) -> None:
        self.cookies: dict[str, tuple[str, dict]] = {}

    def set_cookie(self, name: str, value: str, **options: object) -> None:
        self.cookies[name] = (value, options)


class Connection:
    context = None


def request(path: str = "/", method: str = "GET", host: str = HOST, **headers: str) -> HTTPServerRequest:
    fields = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    if host:
        fields.add("Host", host)
    return HTTPServerRequest(method, path, headers=fields, connection=Connection())


def cookie(auth: TokenAuth) -> str:
    visitor = Visitor()
    auth.set_cookies(visitor)  # type: ignore[arg-type]
    value, options = visitor.cookies[auth.cookie]
    assert options == {"httponly": True, "samesite": "Strict", "path": "/"}
    return f"{auth.cookie}={value}"


def test_the_cookie_opens_and_nothing_else_does(auth: TokenAuth) -> None:
    right = cookie(auth)
    assert auth.admits(request(Cookie=right))
    assert auth.match(request(Cookie=right)) is None
    assert auth.admits(request("/api/kernels/x/channels", Cookie=right, Origin=f"http://{HOST}"))
    assert auth.admits(request(host=f"localhost:{PORT}", Cookie=right))
    assert auth.match(request()) == {}
    for wrong in ("", f"{auth.cookie}=", f"{auth.cookie}={auth.token}", right[:-1], f"other={right.split('=')[1]}"):
        assert not auth.admits(request(Cookie=wrong))
    assert cookie(TokenAuth(PORT)) != right


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8866"},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:8867"},
        {"host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": "http://127.0.0.1:8888"},
        {"Origin": f"http://localhost:{PORT}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_hosts_origins_and_sites_do_not_pass_even_with_the_cookie(
    auth: TokenAuth, headers: dict[str, str]
) -> None:
    assert not auth.admits(request(Cookie=cookie(auth), **headers))


def test_the_token_is_asked_for_at_the_front_page(auth: TokenAuth) -> None:
    way_in = auth.address.removeprefix(f"http://{HOST}")
    assert auth.brings_token(request(way_in))
    assert auth.brings_token(request(way_in, Sec_Fetch_Site="cross-site"))  # a link in a mail
    assert not auth.admits(request(way_in))
    assert not auth.brings_token(request(way_in, method="POST"))
    assert not auth.brings_token(request(way_in.replace("/?", "/voila/static/x?")))
    assert not auth.brings_token(request(f"{way_in}&token=x"))
    assert not auth.brings_token(request(way_in[:-1]))
    assert not auth.brings_token(request("/"))
    assert not auth.brings_token(request(way_in, host="evil.example"))
    assert not auth.brings_token(request(way_in, Origin="http://evil.example"))


def test_two_hosts_are_none(auth: TokenAuth) -> None:
    two = request(Cookie=cookie(auth))
    two.headers.add("Host", "evil.example")
    assert not auth.admits(two)
