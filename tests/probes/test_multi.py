"""The thread that drives probes can be woken by a signal's handler, whatever it is at."""

from __future__ import annotations

import subprocess
import sys

WOKEN = """
import signal, time
from upcheck.probes.multi import Multi
multi = Multi()
woken = 0
def handler(number, frame):
    global woken
    woken += 1
    multi.wake()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
end = time.monotonic() + 1
while time.monotonic() < end:
    multi.wake()
    multi.poll(0.01)
signal.setitimer(signal.ITIMER_REAL, 0)
multi.close()
print(woken > 100)
"""


def test_a_handler_can_wake_it_at_any_moment() -> None:
    told = subprocess.run([sys.executable, "-c", WOKEN], capture_output=True, text=True, timeout=20)
    assert told.stdout == "True\n", told.stderr
