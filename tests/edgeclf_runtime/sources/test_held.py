from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from edgeclf_runtime.sources.held import Held


def test_exactly_one_gets_it():
    held = Held("file")
    with ThreadPoolExecutor(8) as pool:
        taken = [future.result() for future in [pool.submit(held.take) for _ in range(64)]]
    assert sorted(taken, key=str) == [None] * 63 + ["file"]
