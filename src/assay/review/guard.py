"""Who may speak to the server: the gate that every request passes before anything is read.

An expert's browser holds the token's cookie, names our host and comes from our own page. Other pages in that browser,
other machines and names that resolve to this one do not. Plain ASGI: it needs no framework.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = 1 << 20  # bytes of a request's body, at most
HEADER = "X-Assay"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Secrets:
    """Random at each start: `token` stands in the URL once and is swapped for `cookie`; `csrf` is the header's."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer without the application: a status, and a sentence that says no more than it must."""

    status: int
    message: str


@dataclass(frozen=True)
class Guard:
    """`app` behind the gate. `hosts` are the values of the Host header that are ours, `refuse` writes a refusal."""

    app: App
    refuse: Callable[[Refusal, Scope, Receive, Send], Awaitable[None]]
    hosts: frozenset[str]
    port: int
    secrets: Secrets

    @property
    def cookie(self) -> str:
        """Its name; browsers do not keep the cookies of two ports apart."""
        return f"assay_{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets
        try:
            asked = _Asked(scope)
            self._check_place(asked)
            if asked.path == "/" and (token := asked.token()) is not None:
                self._check(token, self.secrets.token, "the token is wrong or of an earlier start")
                await _redirect(send, self._set_cookie())
                return
            self._check(asked.cookie(self.cookie) or "", self.secrets.cookie, "the token is missing")
            if asked.method == "POST":
                self._check_post(asked)
                receive = await _bounded(asked, receive)
            await self.app(scope, receive, _hardened(send))
        except Refusal as refusal:
            await self.refuse(refusal, scope, receive, _hardened(send))

    def _check_place(self, asked: _Asked) -> None:
        """Our host, our page, a method we have, a path that is one."""
        if asked.method not in ("GET", "HEAD", "POST"):
            raise Refusal(405, "only GET and POST are answered")
        if not asked.path.startswith("/") or "\x00" in asked.path:
            raise Refusal(400, "the address is no path")
        if asked.all("host") not in [[host] for host in self.hosts]:
            raise Refusal(421, "this server has another name; use the address that it printed")
        origins = asked.all("origin")
        own = [f"{scheme}://{asked.all('host')[0]}" for scheme in ("http", "https")]
        if origins and (len(origins) > 1 or origins[0] not in own):
            raise Refusal(403, "the request comes from another page")
        if asked.method == "POST" and not origins:
            raise Refusal(403, "the request does not say which page it comes from")
        entering = asked.method == "GET" and asked.path == "/" and asked.one("sec-fetch-mode") in ("", "navigate")
        if asked.one("sec-fetch-site") not in ("", "none", "same-origin") and not entering:
            raise Refusal(403, "the request comes from another page")

    def _check(self, given: str, expected: str, message: str) -> None:
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise Refusal(401, f"{message}; open the address that `assay review` printed")

    def _check_post(self, asked: _Asked) -> None:
        kind, _, parameters = asked.one("content-type").partition(";")
        if kind.strip().lower() != "application/json" or parameters.strip().lower() not in ("", "charset=utf-8"):
            raise Refusal(415, "the body must be JSON (Content-Type: application/json)")
        if not hmac.compare_digest(asked.one(HEADER.lower()).encode(), self.secrets.csrf.encode()):
            raise Refusal(403, f"the header {HEADER} is missing or wrong; reload the page")

    def _set_cookie(self) -> str:
        return f"{self.cookie}={self.secrets.cookie}; HttpOnly; SameSite=Strict; Path=/"


class _Asked:
    """A request's line and headers; a header that is sent twice counts as none."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key.decode("latin-1").lower() == name]

    def one(self, name: str) -> str:
        found = self.all(name)
        return found[0] if len(found) == 1 else ""

    def token(self) -> str | None:
        """The token in the query, "" where it is there several times."""
        try:
            found = parse_qs(self.query.decode("latin-1"), keep_blank_values=True, max_num_fields=64).get("token")
        except ValueError:
            return None
        return None if found is None else found[0] if len(found) == 1 else ""

    def cookie(self, name: str) -> str | None:
        return cookie_of(self.one("cookie"), name)


def cookie_of(header: str, name: str) -> str | None:
    """One cookie of a Cookie header; None where it is not there, or there twice.

    The other cookies, of whatever program on this machine, may be anything: `http.cookies` reads none after a bad one.
    """
    pairs = [part.strip().partition("=") for part in header.split(";")]
    found = [value.strip() for key, _, value in pairs if key.strip() == name]
    return found[0] if len(found) == 1 else None


async def _redirect(send: Send, cookie: str) -> None:
    """To `/` and nowhere else, whatever was asked."""
    headers = {**HEADERS, "location": "/", "set-cookie": cookie, "content-length": "0"}
    await send({"type": "http.response.start", "status": 303, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": b""})


async def _bounded(asked: _Asked, receive: Receive) -> Receive:
    """The body, read whole and refused as soon as it is too large."""
    length = asked.one("content-length")
    if length and (not length.isdecimal() or len(length) > 12 or int(length) > BODY):
        raise Refusal(413, "the request is too large")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the request broke off")
        body += message.get("body", b"")
        if len(body) > BODY:
            raise Refusal(413, "the request is too large")
        if not message.get("more_body", False):
            break
    given: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> Message:
        return given.pop() if given else await receive()

    return replay


def _hardened(send: Send) -> Send:
    """Adds the headers that every answer has; one that the answer sets itself stays."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {key.decode("latin-1").lower() for key, _ in message["headers"]}
            more = _encoded({name: value for name, value in HEADERS.items() if name not in own})
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return wrapped


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
