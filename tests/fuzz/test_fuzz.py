"""Damaged files of every format: no crash, no hang, no unbounded memory; see `harness.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
SEEDS = sorted(path.name for path in (FOLDER / "seeds").iterdir())
QUICK, SHARDS, CASES = 60, 4, 650  # 8 seeds × 4 × 650 = 20,800

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness forks, and reads its memory from /proc")


def run(seed: str, first: int, count: int) -> dict[str, int]:
    command = [sys.executable, str(FOLDER / "harness.py"), seed, str(first), str(count)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert report["failures"] == {}, f"see one again with: {' '.join(command[:3])} CASE 1"
    assert sum(report["ends"].values()) == count
    return dict(report["ends"])


@pytest.mark.parametrize("seed", SEEDS)
def test_some_hundred_damaged_files(seed: str) -> None:
    assert len(run(seed, 0, QUICK)) > 1, "files of one kind alone would show little"


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("seed", SEEDS)
def test_twenty_thousand_damaged_files(seed: str, shard: int) -> None:
    run(seed, QUICK + shard * CASES, CASES)


def test_corpus_is_whole() -> None:
    assert len(SEEDS) * SHARDS * CASES >= 20_000
    assert all((FOLDER / "seeds" / name).stat().st_size < 20_000 for name in SEEDS)


@pytest.mark.parametrize(
    ("crash", "says"),
    [
        ("os.kill(os.getpid(), 11)", "died of signal 11"),
        ("bytearray(1 << 32)", "MemoryError"),
        ("bytearray(b'x') * (450 << 20)", "kB of memory"),
        ("1 / 0", "ZeroDivisionError"),
        ("signal.pause()", "no end after"),
    ],
)
def test_harness_sees_what_it_is_there_for(crash: str, says: str) -> None:
    """Case 1 does harm; the cases beside it pass."""
    program = (
        "import os, signal, sys, harness\n"
        "harness.TIME_S = 3\n"
        "read, cases = harness.read_to_the_end, iter(range(9))\n"
        "def harm(path):\n"
        "    if harness.mutated(seed, 1) == path.read_bytes():\n"
        f"        {crash}\n"
        "    return read(path)\n"
        "harness.read_to_the_end, seed = harm, harness.SEEDS / 'evt3.raw'\n"
        "import tempfile; from pathlib import Path\n"
        "print(harness.run(seed, range(3), Path(tempfile.mkdtemp())))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True)
    assert "'failed': 1" in ran.stdout
    assert "{1: " in ran.stdout
    assert says in ran.stdout
