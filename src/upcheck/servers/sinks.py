"""Stand-ins for receivers: what Alertmanager sends to a webhook, Slack, PagerDuty or a mailbox, as bytes that came."""

from __future__ import annotations

import email
import email.policy
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from upcheck.servers import free_port
from upcheck.servers.loopback import Answer, Loopback


@dataclass(frozen=True, slots=True)
class Message:
    """One message, at a Unix time. *place* is the path it was posted to, or the first recipient's address.

    *mark* is what the sender was told to put in its header X-Upcheck, of an e-mail.
    """

    at: float
    place: str
    text: str
    body: Any = None
    mark: str = ""


class Sinks:
    """An HTTP and an SMTP server on free ports of loopback within `with`, and the *messages* that came.

    *url* and *smarthost* are where they listen. HTTP is answered with *status*, after *pause* seconds: a broken
    receiver's is 500, one that hangs takes for ever.
    """

    def __init__(self) -> None:
        self.status = 200
        self.pause = 0.0
        self._over = threading.Event()
        self.messages: list[Message] = []
        self._http = Loopback(self._answer)
        self.url = f"http://{self._http.address}"
        port = free_port()  # aiosmtpd can't tell which it took
        self.smarthost = f"127.0.0.1:{port}"
        self._smtp = Controller(_Mailbox(self.messages), hostname="127.0.0.1", port=port)

    def _answer(self, path: str, body: bytes) -> Answer:
        if self.status == 200:
            self.messages.append(Message(time.time(), path, body.decode(), json.loads(body)))
        self._over.wait(self.pause)
        return self.status, "application/json", b'{"ok": true, "status": "success"}'

    def __enter__(self) -> Self:
        self._http.__enter__()
        self._smtp.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._smtp.stop()
        self._http.__exit__()


class _Mailbox:
    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        content = envelope.content or b""
        read = email.message_from_bytes(
            content if isinstance(content, bytes) else content.encode(), policy=email.policy.default
        )
        body = read.get_body(preferencelist=("plain", "html"))
        text = f"{read['subject']}\n{body.get_content() if body is not None else ''}"
        mark = str(read["x-upcheck"] or "")
        self._messages.append(Message(time.time(), envelope.rcpt_tos[0], text, mark=mark))
        return "250 OK"
