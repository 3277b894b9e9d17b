"""Where recorded history comes from: a Prometheus HTTP API, an OpenMetrics file, a TSDB directory.

The latter two are served by a Prometheus of our own, from a folder of our own: what is given is only read.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from upcheck import command, tools
from upcheck.probes import ProbeError
from upcheck.probes.http.url import Target
from upcheck.prometheus import Prometheus
from upcheck.rules.backtest import EVERYTHING, History
from upcheck.servers import prometheus
from upcheck.settings import Settings

DEADLINE = 300.0  # seconds for an answer
IMPORT = 3600.0  # seconds for a file to become blocks
WEEK = 7 * 86400.0  # seconds
FINE = 256
_KEPT = "100y"
_BLOCK = "720h"  # that a block of an imported file may span: a file is read once for each
_CONFIGURATION = "global: {{evaluation_interval: {interval:g}s}}\n"


class HistoryError(Exception):
    """There is no history to play: why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a history from *since*, or *back* seconds before its end, to *until* (seconds since 1970)."""

    since: float | None = None
    back: float | None = None
    until: float | None = None

    def of(self, history: History) -> History:
        """Raises ValueError where that is nothing."""
        end = history.end if self.until is None else min(history.end, self.until)
        since = self.since if self.back is None else end - self.back
        start = history.start if since is None else max(history.start, since)
        if start >= end:
            raise ValueError("--start and --end: nothing of the history is between them")
        return replace(history, start=start, end=end)


@contextlib.contextmanager
def opened(source: str, settings: Settings, part: Part, *, interval: float) -> Iterator[History]:
    """A part of the history at *source*: a URL, a file or a directory; of a URL the last week, where it does not say.

    Raises ValueError for a part that is none, HistoryError, tools.ToolError, and PrometheusError or CommandError where
    a program gives no answer.
    """
    if source.startswith(("http://", "https://")):
        api = Prometheus(source, deadline=DEADLINE)
        if part.since is None and part.back is None:
            part = replace(part, back=WEEK)
        asked = part.of(History(api, 0.0, time.time(), _shown(source)))
        yield replace(asked, start=_first(asked))
        return
    path = Path(source)
    if not path.exists():
        raise HistoryError(f"{source}: there is no such file or directory; an HTTP API begins with http:// or https://")
    with tempfile.TemporaryDirectory(prefix="upcheck-") as folder:
        data = Path(folder, "data")
        found = tools.ensure(["prometheus", "promtool"] if path.is_file() else ["prometheus"], settings)
        if path.is_file():
            _import(found["promtool"].path, path, data)
        else:
            _mirror(path, data)
        blocks = [json.loads(one.read_text(encoding="utf-8")) for one in data.glob("*/meta.json")]
        times = [time for block in blocks for time in (block["minTime"] / 1000, (block["maxTime"] - 1) / 1000)]
        configuration = Path(folder, "prometheus.yml")
        configuration.write_text(_CONFIGURATION.format(interval=interval), encoding="utf-8")
        with prometheus(settings, configuration, data, f"--storage.tsdb.retention.time={_KEPT}") as url:
            api = Prometheus(url, deadline=DEADLINE)
            first, last = api.head()
            times += [first, last] if first <= last else []
            if not times:
                raise HistoryError(f"{source} has no samples")
            yield part.of(History(api, min(times), max(times), source))


def _first(history: History) -> float:
    """When it begins to have samples, to a part in FINE: an API keeps them for no longer than it was told to."""
    before, after = history.start, history.end
    while after - before > history.span / FINE:
        middle = (before + after) / 2
        if history.api.names(EVERYTHING, history.start, middle):
            after = middle
        else:
            before = middle
    return before


def _shown(url: str) -> str:
    """*url* without its secrets."""
    try:
        return Target.of(url).shown
    except ProbeError as error:
        raise HistoryError(str(error)) from None


def _import(promtool: Path, file: Path, data: Path) -> None:
    """Make blocks of an OpenMetrics *file*."""
    options = (f"--max-block-duration={_BLOCK}", "--quiet")
    argv: list[str | Path] = [promtool, "tsdb", "create-blocks-from", "openmetrics", *options, file, data]
    answer = command.run(argv, timeout=IMPORT)
    if answer.code:
        told = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        why = told[-1].removeprefix("getting min and max timestamp: ") if told else "promtool says nothing"
        text = f"{file} is no OpenMetrics with a time beside each sample and `# EOF` at the end: {why}"
        raise HistoryError(text)
    if not any(data.glob("*/meta.json")):
        raise HistoryError(f"{file} has no samples")


def _mirror(tsdb: Path, data: Path) -> None:
    """Links to the blocks of *tsdb*, which never change, and copies of what Prometheus writes to."""
    blocks = [meta.parent for meta in tsdb.glob("*/meta.json")]
    if not blocks and not (tsdb / "wal").is_dir():
        raise HistoryError(f"{tsdb} is no TSDB directory: it has neither blocks nor a folder wal")
    data.mkdir()
    for block in blocks:
        (data / block.name / "chunks").mkdir(parents=True)
        for name in ("meta.json", "tombstones"):
            if (block / name).exists():
                shutil.copy(block / name, data / block.name / name)
        (data / block.name / "index").symlink_to((block / "index").absolute())
        for segment in (block / "chunks").iterdir():
            (data / block.name / "chunks" / segment.name).symlink_to(segment.absolute())
    for name in ("wal", "chunks_head", "wbl"):
        if (tsdb / name).is_dir():
            shutil.copytree(tsdb / name, data / name)
