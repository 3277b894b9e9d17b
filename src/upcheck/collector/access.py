"""Who may ask: a bearer token, users, response headers, and limits on guessing. Plain ASGI, around the application."""

from __future__ import annotations

import asyncio
import binascii
import hmac
import json
import math
import secrets
from base64 import b64decode
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from upcheck.bearer import token_of
from upcheck.collector.environment import PROBE_PATHS
from upcheck.collector.limits import RateLimit, client_of
from upcheck.collector.reloaded import FileError
from upcheck.health import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
    from pathlib import Path

    from upcheck.collector.web_config import WebConfig

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]
    Headers = Sequence[tuple[bytes, bytes]]

OPEN_PATHS = frozenset(("/health", *PROBE_PATHS))  # under a token alone: for load balancers and Kubernetes
WRONG_AT_ONCE = 10  # authentications that may fail before a client must wait, and how many a second after that
WRONG_A_SECOND = 1 / 6
_ACCEPTED = 256  # pairs of user and password remembered as right
_WAITING = 32  # comparisons that may wait for the one that runs
_LONGEST_PASSWORD = 72  # bytes; bcrypt, in Go too, compares no more
_LONGEST_FILE = 8192  # bytes


class Rules:
    """What is asked of a client: a *token* and a web configuration, each looked up anew for each request."""

    def __init__(self, token: Callable[[], str | None]) -> None:
        self.token = token
        self.web: Callable[[], WebConfig | None] = lambda: None

    @property
    def closed(self) -> bool:
        """Whether anything at all keeps somebody out, or hides what is said."""
        web = self.web()
        return bool(self.token() or (web and (web.users or web.context)))


class Access:
    """The middleware: asks for what *rules* ask for before *app* hears of a request."""

    def __init__(self, app: Application, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._wrong = RateLimit(WRONG_A_SECOND, WRONG_AT_ONCE)
        self._passwords = Passwords()
        self._rate: tuple[float, int] = (0.0, 0)
        self._all: RateLimit | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        web = self._rules.web()
        if web is not None and web.headers:
            send = _with_headers(send, web.headers)
        refusal = self._too_many(web) or await self._refusal(scope, web)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _answer(send, *refusal)

    def _too_many(self, web: WebConfig | None) -> Refusal | None:
        """The web configuration's own limit, of all clients together."""
        rate = (web.interval, web.burst) if web is not None else (0.0, 0)
        if rate != self._rate:
            self._rate = rate
            self._all = RateLimit(1 / rate[0], rate[1]) if rate[0] else None
        wait = self._all.take("") if self._all else 0.0
        return _wait(wait, "more requests than the web configuration's rate_limit lets through") if wait else None

    async def _refusal(self, scope: Scope, web: WebConfig | None) -> Refusal | None:
        token, users = self._rules.token(), web.users if web is not None else {}
        if (not token and not users) or (not users and scope["path"] in OPEN_PATHS):
            return None
        scheme, credentials = _credentials(scope)
        if scheme not in _schemes(token, users):
            return _unauthorized(token, users)
        client = client_of(scope)
        # Before anything is compared: a right guess must not tell itself from a wrong one either.
        if wait := self._wrong.wait(client):
            return _wait(wait, "too many wrong authentications from this address")
        if scheme == b"bearer":
            right = hmac.compare_digest(credentials, (token or "").encode())
        elif (known := self._passwords.recall(credentials, users)) is not None:
            right = known
        elif self._passwords.busy:
            return _wait(1.0, "too many passwords are being compared")
        else:
            self._wrong.take(client)  # before it is known: many at once would all be let through
            return None if await self._passwords.compare(credentials, users) else _unauthorized(token, users)
        if right:
            return None
        self._wrong.take(client)
        return _unauthorized(token, users)


class Passwords:
    """Compares passwords with bcrypt, one at a time in a thread, and remembers which pairs were right.

    What is remembered is a keyed hash, under a key that is this process's alone, of the pair and of the user's hash:
    a password that is changed in the file is compared anew.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._accepted: OrderedDict[bytes, None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def busy(self) -> bool:
        """Whether so many wait that one more is not let in."""
        return self._waiting >= _WAITING

    def recall(self, credentials: bytes, users: Mapping[bytes, bytes]) -> bool | None:
        """True for a pair that was right before, False for what is no pair at all, None where it must be compared."""
        pair = _pair(credentials)
        if pair is None:
            return False
        digest = self._digest(*pair, users.get(pair[0], b""))
        if digest not in self._accepted:
            return None
        self._accepted.move_to_end(digest)
        return True

    async def compare(self, credentials: bytes, users: Mapping[bytes, bytes]) -> bool:
        """Whether *credentials*, a user and a password, are one of *users*; as slow for a user there is none of."""
        user, password = _pair(credentials) or (b"", b"")
        stored = users.get(user) or next(iter(users.values()))
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.shield(in_thread(lambda: _matches(password, stored)))
        finally:
            self._waiting -= 1
        if not right or user not in users:
            return False
        self._accepted[self._digest(user, password, stored)] = None
        if len(self._accepted) > _ACCEPTED:
            self._accepted.popitem(last=False)
        return True

    def _digest(self, user: bytes, password: bytes, stored: bytes) -> bytes:
        return hmac.digest(self._key, repr((user, password, stored)).encode(), "sha256")


def token_file(path: Path) -> tuple[str, Sequence[Path]]:
    """The token in *path*, for Reloaded. Raises FileError."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_FILE).decode("ascii", errors="replace")
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}; expected a file that holds the token") from None
    token = token_of(text)
    if token is None:
        raise FileError(f"{path} holds no token: expected up to 4096 printable ASCII characters without blanks")
    return token, (path,)


Refusal = tuple[int, str, "Headers"]


def _matches(password: bytes, stored: bytes) -> bool:
    import bcrypt  # here, not above: most collectors have no users

    try:
        return bcrypt.checkpw(password[:_LONGEST_PASSWORD], stored)
    except ValueError:  # a hash or a password that this bcrypt can't take is not right
        return False


def _schemes(token: str | None, users: Mapping[bytes, bytes]) -> set[bytes]:
    return ({b"bearer"} if token else set()) | ({b"basic"} if users else set())


def _credentials(scope: Scope) -> tuple[bytes, bytes]:
    """Scheme in lower case, and credentials, of the one Authorization header; empty where there is none, or several."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, credentials = sent[0].partition(b" ") if len(sent) == 1 else (b"", b"", b"")
    return scheme.lower(), credentials.strip()


def _pair(credentials: bytes) -> tuple[bytes, bytes] | None:
    try:
        user, colon, password = b64decode(credentials, validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


def _unauthorized(token: str | None, users: Mapping[bytes, bytes]) -> Refusal:
    expected = (["the token, as Authorization: Bearer TOKEN"] if token else []) + (
        ["a user and password, as basic authentication"] if users else []
    )
    challenges = ([b'Bearer realm="upcheck"'] if token else []) + (
        [b'Basic realm="upcheck", charset="UTF-8"'] if users else []
    )
    return 401, f"expected {', or '.join(expected)}", [(b"www-authenticate", one) for one in challenges]


def _wait(seconds: float, why: str) -> Refusal:
    whole = max(1, math.ceil(seconds))
    return 429, f"{why}: try again in {whole} s", [(b"retry-after", str(whole).encode())]


async def _answer(send: Send, status: int, sentence: str, headers: Headers) -> None:
    body = json.dumps({"error": sentence}).encode()
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send, headers: Headers) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return sending
