"""Signed webhooks: who has the secret, lately, and once.

`X-Signature: t=<unix time>,v1=<hex>`, where the hex is HMAC-SHA256 of `<t>.<body>`: Stripe's scheme, which many speak.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable

HEADER = "x-signature"
TOLERANCE = 300.0  # seconds that a signature may be old, or ahead of our clock
_REMEMBERED = 100_000  # signatures that can't be used again: more than a client may send in that time
_SHAPE = re.compile(r"t=([0-9]{1,12}),\s*v1=([0-9a-f]{64})")


class Signatures:
    """Says why a signature is not to be believed."""

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()

    def sign(self, body: bytes) -> str:
        """The header's value for *body*, now."""
        told = f"{self._clock():.0f}"
        return f"t={told},v1={self._digest(told, body)}"

    def refusal(self, header: str | None, body: bytes) -> str | None:
        """A sentence for the client; None where the signature is right, and is taken: it counts once."""
        shape = _SHAPE.fullmatch((header or "").strip())
        if shape is None:
            return "X-Signature: expected t=<unix time>,v1=<HMAC-SHA256 of `t.body`, in hex>"
        told, digest = shape.groups()
        if not hmac.compare_digest(self._digest(told, body), digest):
            return "X-Signature: it is not of this body, or made with another secret"
        now = self._clock()
        if abs(now - float(told)) > TOLERANCE:
            return f"X-Signature: its time is more than {TOLERANCE:.0f} s from ours: sign anew, and look at the clocks"
        while self._used and next(iter(self._used.values())) < now - 2 * TOLERANCE:
            self._used.popitem(last=False)
        if digest in self._used:
            return "X-Signature: it was used before: sign each request anew"
        self._used[digest] = now
        if len(self._used) > _REMEMBERED:
            self._used.popitem(last=False)
        return None

    def _digest(self, told: str, body: bytes) -> str:
        return hmac.new(self._secret, told.encode() + b"." + body, hashlib.sha256).hexdigest()
