"""Reads mutated files to their end, each in a process that may crash, hang or run out of memory without harm.

    python tests/fuzz/harness.py evt3.raw 0 1000      # cases 0 to 999 of a seed
    python tests/fuzz/harness.py evt3.raw 17 1        # one of them again
    python tests/fuzz/harness.py evt3.raw 17 1 --keep file.raw

Prints a JSON document: how many cases ended how, and each failure with its case. A case passes where the file is read
to its end, or an `EdgeclfError` says why not; a file of words (RAW, DAT) is read through a pipe too, which must give
the same (but for the times of DAT, which silence may decide). Any other exception (also MemoryError, as the memory is
limited, and warnings), a death of the process, and more time, memory or slices than a small file can need is a failure.
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
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mutations import mutated

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.events import Events
from edgeclf_runtime.slicing import slices
from edgeclf_runtime.sources import EventSource, FrameSource, Source, open_source
from edgeclf_runtime.sources.readers import ByteReader
from edgeclf_runtime.sources.words import WordSource

SEEDS = Path(__file__).parent / "seeds"
DELTA_T = 10_000_000
MOST_SLICES = 5_000  # 14 hours: the counter of EVT2 holds 4.8
MOST_SLICES_BY_SUFFIX = {".hdf5": 7 * 8_640}  # it has no counter, so each of its 7 chunks may be a day later
MEMORY_BYTES = 1 << 30  # more than the process has at its start
MOST_GROWTH_KB = 400_000
TIME_S = 30.0


class Portions(ByteReader):
    """Gives the bytes of a file as a pipe may: in portions of any size, with silence between them, so often."""

    def __init__(self, path: Path, silence: float) -> None:
        self._silence = silence
        self.what, self.is_live = str(path), True
        self._data = path.read_bytes()
        self._rng = np.random.default_rng(len(self._data))
        self._at = 0

    def _read(self, closed: threading.Event) -> bytes | None:  # noqa: ARG002 - nothing is waited for
        if self._rng.random() < self._silence:
            return None
        portion = self._data[self._at : self._at + int(self._rng.choice([1, 7, 500, 3001]))]
        self._at += len(portion)
        return portion

    def close(self) -> None:
        """Does nothing: there is no file open."""


def read_to_the_end(path: Path) -> str:
    """Reads a file as `edgeclf run-stream` does, words also as through a pipe, and returns how that ended."""
    most = MOST_SLICES_BY_SUFFIX.get(path.suffix, MOST_SLICES)
    ended, damage, events = end_of(lambda: open_source(path), lambda source: sliced(source, most))
    if path.suffix in (".raw", ".dat"):
        is_dat = path.suffix == ".dat"
        assert_same(through_pipe(path, 0 if is_dat else 0.2), (ended, damage, events), "txyp")
        if is_dat:  # an event after a pause is likelier than damage, which shows where the file is noise
            assert_same((ended, damage, through_pipe(path, 0.2)[2]), (ended, damage, events), "xyp")
    return ended


def through_pipe(path: Path, silence: float) -> tuple[str, dict[str, int], Events]:
    """Reads a file of words through a pipe; returns what `end_of` does."""
    return end_of(lambda: WordSource(Portions(path, silence), str(path)), Events.concatenate)


def assert_same(
    found: tuple[str, dict[str, int], Events], expected: tuple[str, dict[str, int], Events], fields: str
) -> None:
    """Asserts that two readings ended alike, with the same damage and the same events."""
    assert found[:2] == expected[:2]
    for field in fields:
        np.testing.assert_array_equal(getattr(found[2], field), getattr(expected[2], field))


def end_of(open_it: Callable[[], Source], read: Callable[[Any], Events]) -> tuple[str, dict[str, int], Events]:
    """Opens a source and reads it; returns how that ended, the damage, and the events."""
    try:
        source = open_it()
        events = read(source)
    except EdgeclfError as error:
        return "refused" if str(error).endswith(".") else f"no sentence: {error}", {}, Events.empty()
    damage = dict(source.damage)
    assert all(count > 0 for count in damage.values())
    assert all(problem.endswith(".") for problem in source.problems)
    return "damaged" if source.problems else "read", damage, events


def sliced(source: Source, most: int) -> Events:
    """Returns the events of a source that were cut into slices, so many at most; none where it gives frames."""
    if isinstance(source, FrameSource):
        for _ in source:
            pass
        return Events.empty()
    assert isinstance(source, EventSource)
    batches: list[Events] = []
    count = sum(1 for _ in slices(noted(source, batches), DELTA_T))
    assert count <= most, f"{count} slices"
    return Events.concatenate(batches)


def noted(source: EventSource, batches: list[Events]) -> Iterator[Events]:
    """Yields the batches of a source and adds each to a list."""
    for events in source:
        batches.append(events)
        yield events


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
