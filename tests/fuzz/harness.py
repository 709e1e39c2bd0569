"""Reads mutated files to their end, each in a process that may crash, hang or run out of memory without harm.

    python tests/fuzz/harness.py evt3.raw 0 1000      # cases 0 to 999 of a seed
    python tests/fuzz/harness.py evt3.raw 17 1        # one of them again
    python tests/fuzz/harness.py evt3.raw 17 1 --keep file.raw

Prints a JSON document: how many cases ended how, and each failure with its case. A case passes where the file is read
to its end, or an `EdgeclfError` says why not. Any other exception (also MemoryError, as the memory is limited, and
warnings), a death of the process, and more time, memory or slices than a small file can need is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

from mutations import mutated

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.slicing import slices
from edgeclf_runtime.sources import EventSource, open_source

SEEDS = Path(__file__).parent / "seeds"
DELTA_T = 1_000_000
MOST_SLICES = 50_000  # 14 hours: the counter of EVT2 holds 4.8
MEMORY_BYTES = 1 << 30  # more than the process has at its start
MOST_GROWTH_KB = 400_000
TIME_S = 30.0


def read_to_the_end(path: Path) -> str:
    """Reads a file as `edgeclf run-stream` does, and returns how that ended."""
    try:
        source = open_source(path)
        if isinstance(source, EventSource):
            count = sum(1 for _ in slices(source, DELTA_T))
            if count > MOST_SLICES:
                return f"{count} slices"
        else:
            for _ in source:
                pass
        assert all(isinstance(problem, str) for problem in source.problems)
        assert all(count > 0 for count in source.damage.values())
    except EdgeclfError as error:
        return "refused" if str(error).endswith(".") else f"no sentence: {error}"
    return "damaged" if source.problems else "read"


def work(seed: Path, cases: range, path: Path, report: int) -> None:
    """Reads the files of some cases and reports each before and after; runs in a process of its own."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in cases:
        path.write_bytes(mutated(seed, case))
        try:
            ended = read_to_the_end(path)
        except Exception:
            ended = traceback.format_exc()
        growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if growth > MOST_GROWTH_KB:
            ended = f"{growth} kB of memory"
        os.write(report, json.dumps([case, ended[-1500:]]).encode() + b"\n")
        if growth > MOST_GROWTH_KB:
            return  # what the process has taken, the next case would be blamed for


def run(seed: Path, cases: range, folder: Path) -> tuple[Counter[str], dict[int, str]]:
    """Reads the files of some cases, in as many processes as it takes, and returns how they ended and what failed."""
    ends: Counter[str] = Counter()
    failures: dict[int, str] = {}
    path = folder / f"mutated{seed.suffix}"
    at = cases.start
    while at < cases.stop:
        receive, send = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                work(seed, range(at, cases.stop), path, send)
            finally:
                os._exit(0)
        os.close(send)
        with open(receive, "rb", buffering=0) as lines:  # noqa: PTH123 - it is no path
            is_over = False
            while not is_over and at < cases.stop:
                is_late = not select.select([lines], [], [], TIME_S)[0]
                line = b"" if is_late else lines.readline()
                if is_over := not line:
                    os.kill(process, signal.SIGKILL)
                else:
                    at, ended = json.loads(line)[0] + 1, json.loads(line)[1]
                    ends[ended if ended in ("read", "damaged", "refused") else "failed"] += 1
                    if ended not in ("read", "damaged", "refused"):
                        failures[at - 1] = ended
                    is_over = ended.endswith("of memory")
        status = os.waitpid(process, 0)[1]
        if not line and at < cases.stop:
            ends["failed"] += 1
            failures[at] = f"no end after {TIME_S} s" if is_late else f"died of signal {os.WTERMSIG(status)}"
            at += 1
    return ends, failures


def main() -> None:
    """Runs the cases that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", help="name of a file of the corpus")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--keep", type=Path, help="write the first case's file there")
    arguments = parser.parse_args()
    seed = SEEDS / arguments.seed
    if arguments.keep:
        arguments.keep.write_bytes(mutated(seed, arguments.first))
    with tempfile.TemporaryDirectory() as folder:
        ends, failures = run(seed, range(arguments.first, arguments.first + arguments.count), Path(folder))
    json.dump({"ends": ends, "failures": failures}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
