"""Work through a list of training commands: `python tools/run_list.py LIST [--minutes M] [--jobs N]`.

LIST holds a run a line (`#` begins a comment): its folder's name and its command, as in
`sprint-1: cifar10 --recipe sprint --seed 1`. A run that is finished is skipped, one that was stopped is resumed, and the queue may be interrupted at any time:
Ctrl-C, SIGTERM or `--minutes` stop the running ones, which save their states.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path


def read_list(path: Path) -> dict[str, list[str]]:
    """The runs of a list: their names, and their commands as words."""
    runs = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not (line := line.split("#")[0].strip()):
            continue
        name, colon, command = line.partition(":")
        if not colon or not command.strip() or name in runs:
            raise ValueError(f"{path}, line {number}: write `NAME: COMMAND`, each name once; it is {line!r}")
        runs[name] = shlex.split(command)
    return runs


def start(words: list[str], folder: Path) -> subprocess.Popen:
    """Begin or resume a run, on one thread, with a session of its own; what it prints goes to `log.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    module, *options = words
    command = [sys.executable, "-m", f"vit_edu.{module}", *options, "--out", str(folder), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def work(commands: dict[str, list[str]], runs: Path, jobs: int, minutes: float | None) -> int:
    """Run the commands, `jobs` at a time, in their order; the number of runs that failed."""
    end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    asked: list[int] = []
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda received, frame: asked.append(received))
    waiting = [name for name in commands if not (runs / name / "run.json").exists()]
    print(f"{len(commands) - len(waiting)} of {len(commands)} runs are finished", flush=True)
    running: dict[subprocess.Popen, Path] = {}
    failed = 0
    while running or (waiting and not asked and time.monotonic() < end):
        while waiting and len(running) < jobs and not asked and time.monotonic() < end:
            name = waiting.pop(0)
            print(f"{time.strftime('%H:%M')} {name}: {' '.join(commands[name])}", flush=True)
            running[start(commands[name], runs / name)] = runs / name
        if asked or time.monotonic() >= end:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
        time.sleep(1)
        for process in [p for p in running if p.poll() is not None]:
            folder = running.pop(process)
            done = (folder / "run.json").exists()
            failed += not done and process.returncode != 0
            state = "finished" if done else "stopped" if process.returncode == 0 else "failed, see its log.txt"
            print(f"{time.strftime('%H:%M')} {folder.name}: {state}", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("list", type=Path, help="a file with a run a line")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--minutes", type=float, help="stop then; the same command goes on")
    options = parser.parse_args()
    try:
        commands = read_list(options.list)
    except (OSError, ValueError) as error:
        sys.exit(f"{error}")
    return 1 if work(commands, options.runs.resolve(), options.jobs, options.minutes) else 0


if __name__ == "__main__":
    sys.exit(main())
