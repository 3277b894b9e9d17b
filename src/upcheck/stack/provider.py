"""What every kind of stack can do, whatever runs its services."""

from __future__ import annotations

import errno
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from upcheck.settings import Settings
from upcheck.stack import proof
from upcheck.stack.archive import Manifest
from upcheck.stack.configuration import missing_secrets
from upcheck.stack.health import Standing
from upcheck.stack.record import Record
from upcheck.stack.services import HOST, StackError

_LOOK = 0.2  # seconds between two looks
_HOPELESS = 5  # times that a service has died, after which nobody waits for it


class Provider(ABC):
    """A stack of the repo of *settings*. Only one command at a time may change it."""

    START: ClassVar[float] = 60.0
    """Seconds in which every service is to be well."""
    KEPT: ClassVar[str] = "data and logs are kept in .upcheck/stack"
    """Where `stop` leaves what there is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.record = Record(settings.root)

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it was started, and not stopped."""

    @abstractmethod
    def up(self) -> bool:
        """Prove the configuration and start everything; False where it runs already, and nothing was done.

        Raises StackError (RefusedError where the configuration is not accepted), tools.ToolError, CommandError: then
        nothing was started.
        """

    @abstractmethod
    def restart(self) -> None:
        """Prove the configuration, stop what runs, and start it anew.

        Raises as `up` does: then what runs goes on, with the configuration that it has.
        """

    @abstractmethod
    def stop(self) -> bool:
        """End everything, keep its data; whether anything ran. Raises StackError."""

    @abstractmethod
    def standings(self) -> list[Standing]:
        """How each service is, asked now; nothing where none was ever started."""

    @abstractmethod
    def proven(self) -> str:
        """What was proven of the path of an alert: a sentence. Raises StackError with what was not."""

    @abstractmethod
    def backup(self, file: Path) -> Manifest:
        """Write all that is kept into *file*; what is in it. Raises StackError, CommandError."""

    @abstractmethod
    def restore(self, file: Path) -> tuple[Manifest, Path]:
        """Put what the backup *file* has in the place of what is kept; what is in it, and where that is now.

        Raises StackError, tools.ToolError, CommandError.
        """

    @abstractmethod
    def logged(self) -> list[str]:
        """The names of the services that have a log. Raises StackError."""

    def settled(self, told: Callable[[Standing], None]) -> list[Standing]:
        """Wait until each service is well, which *told* hears of; how they are then, or once waiting is no use."""
        end, well = time.monotonic() + self.START, set[str]()
        while True:
            now = self.standings()
            for one in now:
                if one.healthy and one.service.name not in well:
                    well.add(one.service.name)
                    told(one)
            hopeless = any(one.run.died >= _HOPELESS for one in now if not one.healthy)
            if hopeless or all(one.healthy for one in now) or time.monotonic() > end or not self.running:
                return now
            time.sleep(_LOOK)

    def missing_secrets(self) -> list[Path]:
        """The files of secrets that Alertmanager is configured to read, and that are not there yet."""
        return missing_secrets(self.settings)

    def _proven(self, configuration: Path, found: str = "") -> str:
        """`proven`, with Alertmanager's *configuration*; *found* is its URL for Prometheus, where that is another."""
        urls = {one.service.name: one.service.url for one in self.standings()}
        return proof.path(urls["prometheus"], urls["alertmanager"], configuration, found=found or urls["alertmanager"])


def free(name: str, port: int) -> None:
    """Raises StackError where *port*, which the service *name* needs, is taken."""
    with socket.socket() as knock:
        knock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            knock.bind((HOST, port))
            knock.listen()
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"can't be listened on ({error.strerror})"
            raise StackError(
                f"port {port} of {HOST}, which {name} would listen on, {what}: free it, or give {name} another: "
                f'ports = "{name}=PORT" in [tool.upcheck], or UPCHECK_PORTS={name}=PORT'
            ) from None
