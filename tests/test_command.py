from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.waiting import eventually
from upcheck import command
from upcheck.command import Answer, CommandError, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_an_answer_is_code_and_both_outputs() -> None:
    assert run(python("import sys; print('out'); sys.exit('err')"), timeout=10) == Answer(1, "out\n", "err\n")


def test_input_larger_than_a_pipe_is_fed() -> None:
    text = "x" * 1_000_000
    assert run(python("import sys; print(len(sys.stdin.read()))"), timeout=10, stdin=text).stdout == "1000000\n"


def test_a_program_that_does_not_listen_is_no_error() -> None:
    assert run(python("print('done')"), timeout=10, stdin="x" * 1_000_000).stdout == "done\n"


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert run(python(r"import os; os.write(1, b'a\xffb')"), timeout=10).stdout == "a\ufffdb"


def test_the_environment_is_added_to() -> None:
    answer = run(
        python("import os; print(os.environ['EXTRA'], 'PATH' in os.environ)"), timeout=10, environ={"EXTRA": "1"}
    )
    assert answer.stdout == "1 True\n"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import time; time.sleep(60)", "gave no answer within 0.5 s"),
        ("while True: print('x' * 65536)", f"printed more than {command.MAX_OUTPUT // 2**20} MiB"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", "closed its output but did not end"),
    ],
)
def test_what_can_not_be_judged_says_why(code: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(python(code), timeout=0.5 if "sleep" in code else 20)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="promtool can't be started: No such file"):
        run([tmp_path / "promtool"], timeout=1)


def test_no_child_outlives_the_answer(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    run(["/bin/sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $! > {pid_file}"], timeout=10)
    pid = int(pid_file.read_text())
    eventually(lambda: _gone(pid), seconds=20)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # an orphan that nobody has reaped yet
    except psutil.NoSuchProcess:
        return True


def test_the_environment_can_be_given_whole_and_the_folder_named(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ.get('PATH'), os.environ['EXTRA'])"
    answer = run(python(code), timeout=10, environ={"EXTRA": "1"}, inherit=False, cwd=tmp_path)
    assert answer.stdout == f"{tmp_path.resolve()} None 1\n"
