"""The configuration that a stack runs with: a copy of the repo's, proven before anything is started or stopped."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from upcheck import command, documents, targets, tools
from upcheck.documents import DocumentError
from upcheck.rules import configs, contract, promql, suite
from upcheck.rules.repository import PathError
from upcheck.settings import Settings
from upcheck.stack.services import BINARIES, StackError, addressed, modules

TARGETS = Path("prometheus/targets")
CONFIGURED = ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml")
_TIMEOUT = 20.0  # seconds for an exporter to read its configuration
_MOUNTED = "/etc/alertmanager/secrets"  # in a container
_SECRET = re.compile(r"(_file:\s*[\"']?)secrets/")
_SHOWN = 5  # findings of the contract


class RefusedError(StackError):
    """A configuration that its own tool, or the contract, does not accept."""


def programs(settings: Settings) -> dict[str, Path]:
    """The servers and the tools that prove their configuration, fetched where this machine has none.

    Raises tools.ToolError.
    """
    return {name: tool.path for name, tool in tools.ensure((*BINARIES, "promtool", "amtool"), settings).items()}


def propose(settings: Settings, places: Mapping[int, str], into: Path, *, mounted: bool = False) -> None:
    """Copy the repo's monitoring into the folder *into*, with the addresses of *places*. Raises StackError.

    Targets are written anew. Secrets are not copied: where they were, a link leads to them, or an empty folder where
    they are to be *mounted*.
    """
    source = settings.monitoring
    for name in CONFIGURED:
        if not (source / name).is_file():
            raise StackError(f"{source / name} is not there: a stack needs it; `upcheck init FOLDER` writes one")
    try:
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(source, into, ignore=shutil.ignore_patterns("secrets", ".env"))
        # Alertmanager's even where there are none yet: it reads them as it sends, so they may be made later.
        found = {source / "alertmanager/secrets", *source.rglob("secrets")}
        for secrets in (one for one in found if not found & set(one.parents)):  # one inside another is in its link
            place = into / secrets.relative_to(source)
            place.mkdir() if mounted else place.symlink_to(secrets.resolve())
        kept = _MOUNTED if mounted else (source / "alertmanager/secrets").resolve()
        for name in CONFIGURED:
            text = addressed((into / name).read_text(encoding="utf-8"), places)
            if name.startswith("alertmanager/"):  # which looks for some of them where it was started, not beside itself
                text = _SECRET.sub(lambda found: f"{found[1]}{kept}/", text)
            (into / name).write_text(text, encoding="utf-8")
        targets.write(settings, os.environ, into / TARGETS)
        _prove_files(source / "prometheus/prometheus.yml", mounted=mounted)
    except DocumentError as error:
        raise RefusedError(str(error)) from None
    except (OSError, shutil.Error, UnicodeDecodeError) as error:
        raise StackError(f"{source} can't be copied to {into}: {error}") from None


def prove(settings: Settings, proposed: Path, found: Mapping[str, Path]) -> None:
    """Hold what is *proposed* against promtool, amtool, blackbox_exporter and the contract.

    Raises RefusedError with what the first of them says, CommandError where one gives no answer.
    """
    for tool, name in zip(("promtool", "amtool"), CONFIGURED, strict=True):
        try:
            verdict = configs.check(found[tool], proposed / name)
        except DocumentError as error:
            raise RefusedError(_here(str(error), settings, proposed)) from None
        if not verdict.ok:
            said = _here(verdict.text, settings, proposed).removeprefix("FAILED:").strip()
            raise RefusedError(f"{tool} refuses {_shown(settings.monitoring / name, settings)}: {said}")
    argv = [str(found["blackbox_exporter"]), f"--config.file={modules(settings, proposed)}", "--config.check"]
    answer = command.run(argv, timeout=_TIMEOUT)
    if answer.code:
        said = _here((answer.stderr or answer.stdout).strip().splitlines()[-1], settings, proposed)
        raise RefusedError(f"blackbox_exporter refuses {_shown(settings.probes, settings)}: {said}")
    _kept_contract(settings)


def prove_lookback(settings: Settings) -> None:
    """Raise RefusedError where a rule looks back to samples that are gone by then: it would never be true."""
    kept = suite.seconds(settings.tsdb_retention)
    for file in sorted((settings.monitoring / "prometheus/rules").glob("*.yml")):
        for rule in suite.rules_in(file):
            if (back := promql.lookback(promql.parse(rule.expr))) > kept:
                raise RefusedError(
                    f"{_shown(file, settings)}: {rule.name.text} looks back {back / 86400:g} days, and samples are "
                    f"kept for {settings.tsdb_retention}: give tsdb_retention more"
                )


def _kept_contract(settings: Settings) -> None:
    """Raise RefusedError where rules read what nothing produces."""
    folders = [folder for folder in (settings.monitoring, settings.rules_tests) if folder.is_dir()]
    try:
        report = contract.check(folders, context_paths=[settings.monitoring])
    except PathError as error:
        raise RefusedError(str(error)) from None
    if report.findings:
        shown = "\n".join(
            f"  {_shown(one.file, settings)}:{one.line}: {one.sentence}" for one in report.findings[:_SHOWN]
        )
        count = len(report.findings)
        raise RefusedError(
            f"the contract is broken in {count} place{'s' * (count > 1)} (`upcheck rules contract` shows all):\n{shown}"
        )


def _prove_files(configuration: Path, *, mounted: bool) -> None:
    """Raise RefusedError where files are missing that *configuration* names: Prometheus would leave out that job.

    promtool does not look for all of them. In a container, absolute paths are those of its own.
    """
    named = {one for one in _files(documents.load(configuration)) if not (mounted and Path(one).is_absolute())}
    lost = [one for one in sorted(named) if not (configuration.parent / one).is_file()]
    if lost:
        raise RefusedError(
            f"{configuration} names {', '.join(lost)}, not there: a path is relative to that file, and without "
            f"{'it' if len(lost) == 1 else 'them'} Prometheus leaves a whole job out"
        )


def missing_secrets(settings: Settings) -> list[Path]:
    """The files of secrets that Alertmanager's configuration names and that are not there."""
    path = settings.monitoring / "alertmanager/alertmanager.yml"
    named = sorted(set(_files(documents.load(path))))
    return [Path(name) for name in named if not (path.parent / name).is_file()]


def _files(value: object) -> list[str]:
    """The values of all keys that end in _file, by which files are named that are read; logs are written."""
    if isinstance(value, Mapping):
        keys = [key for key in value if str(key).endswith("_file") and not str(key).endswith("log_file")]
        own = [str(value[key]) for key in keys if isinstance(value[key], str)]
        return own + [name for one in value.values() for name in _files(one)]
    return [name for one in value for name in _files(one)] if isinstance(value, list) else []


def _here(text: str, settings: Settings, proposed: Path) -> str:
    """*text* with the files that it is about as the repo has them."""
    return text.replace(str(proposed), str(settings.monitoring)).replace(f"{settings.root}{os.sep}", "").strip()


def _shown(path: Path, settings: Settings) -> str:
    return os.path.relpath(path, settings.root)
