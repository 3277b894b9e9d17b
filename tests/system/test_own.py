"""The collector's own process, beside psutil and prometheus_client."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.hosts import values
from upcheck.exposition import page
from upcheck.system.own import TICK, OwnProcess


def test_it_has_every_family_of_prometheus_client_with_its_type_and_labels() -> None:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)

    def shapes(text: str) -> dict[str, tuple[str, set[frozenset[tuple[str, str]]]]]:
        return {
            family.name: (family.type, {frozenset(sample.labels.items()) for sample in family.samples})
            for family in text_string_to_metric_families(text)
        }

    ours = shapes(page(OwnProcess().blocks()).decode())
    theirs = shapes(generate_latest(registry).decode())
    assert len(theirs) >= 10
    assert {name: ours.get(name) for name in theirs} == theirs


def test_it_agrees_with_psutil() -> None:
    process = psutil.Process()
    gc.collect()  # what other tests left open would be closed between the two readings
    got = values(OwnProcess())
    memory, times = process.memory_info(), process.cpu_times()
    assert got["process_resident_memory_bytes"] == pytest.approx(memory.rss, rel=0.1)
    assert got["process_virtual_memory_bytes"] == pytest.approx(memory.vms, rel=0.1)
    assert got["process_heap_bytes"] == pytest.approx(memory.data, rel=0.1)
    assert got["process_cpu_seconds_total"] == pytest.approx(times.user + times.system, abs=0.5)
    assert got["process_start_time_seconds"] == pytest.approx(process.create_time(), abs=2)
    assert abs(got["process_open_fds"] - process.num_fds()) <= 2
    assert got["process_max_fds"] == process.rlimit(psutil.RLIMIT_NOFILE)[0]


def test_after_a_fork_the_child_tells_of_itself() -> None:
    own = OwnProcess()
    assert own.resident()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        before = own.resident()
        held = bytearray(b"x") * (200 * 1024 * 1024)
        os.write(writing, f"{before} {own.resident()}".encode())
        os._exit(len(held) % 2)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        before, after = map(int, told.read().split())
    assert after > before + 150 * 1024 * 1024


def test_without_proc_there_is_what_python_knows(tmp_path: Path) -> None:
    got = values(OwnProcess(proc=tmp_path))
    assert "process_cpu_seconds_total" in got
    assert "process_max_fds" in got
    assert not [name for name in got if name.startswith(("process_resident", "process_open", "process_start"))]


def test_pauses_and_the_lag_of_the_loop_are_measured() -> None:
    own = OwnProcess()
    hooks = list(gc.callbacks)
    assert "upcheck_event_loop_lag_seconds" not in values(own)

    async def session() -> None:
        watch = asyncio.create_task(own.watch())
        await asyncio.sleep(TICK / 2)
        gc.collect()
        time.sleep(TICK)  # what a bad neighbour does: the timer is due in the middle of it
        await asyncio.sleep(TICK * 1.5)
        watch.cancel()

    asyncio.run(session())
    got = values(own)
    assert got["upcheck_event_loop_lag_max_seconds"] >= 0.4 * TICK
    assert got["upcheck_event_loop_lag_seconds"] < got["upcheck_event_loop_lag_max_seconds"]
    assert got["upcheck_gc_pause_seconds_total 2"] > 0
    assert gc.callbacks == hooks
