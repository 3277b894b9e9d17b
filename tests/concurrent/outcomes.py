"""A pytest plugin that writes what each item came to, for the comparison of two runs."""

import json
import os
import re
from pathlib import Path

TOLD: dict[str, list[object]] = {}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        xfail = bool(getattr(report, "wasxfail", None))
        sections = sorted(name for name, text in report.sections if text.strip()) if report.failed else []
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = (
            re.sub(r"0x[0-9a-f]+|\d+\.\d+", "N", crash.message.partition("\n")[0]) if crash and report.failed else ""
        )
        TOLD.setdefault(report.nodeid, []).append([report.when, report.outcome, xfail, reason, sections])


def pytest_sessionfinish(exitstatus):
    Path(os.environ["OUTCOMES"]).write_text(json.dumps({"exit": int(exitstatus), "told": TOLD}))
