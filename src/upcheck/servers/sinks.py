"""Stand-ins for receivers: what Alertmanager sends to a webhook, Slack, PagerDuty or a mailbox, as bytes that came."""

from __future__ import annotations

import email
import email.policy
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from upcheck.servers import free_port


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
        self.refused = 0
        sinks = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if sinks.status == 200:
                    sinks.messages.append(Message(time.time(), self.path, text, json.loads(text)))
                else:
                    sinks.refused += 1
                sinks._over.wait(sinks.pause)
                body = b'{"ok": true, "status": "success"}'
                self.send_response(sinks.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nobody reads it."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """Alertmanager has ended before it was answered."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        port = free_port()  # aiosmtpd can't tell which it took
        self.smarthost = f"127.0.0.1:{port}"
        self._smtp = Controller(_Mailbox(self.messages), hostname="127.0.0.1", port=port)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self._smtp.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._smtp.stop()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


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
