from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.dat import DatDecoder

PERIOD = 1 << 32


def decode_plainly(times, pairs):
    """Decodes one event at a time, by the vendor's description of DAT version 2."""
    for t, (_, place) in zip(times, pairs, strict=True):
        yield t, place & 0x3FFF, place >> 14 & 0x3FFF, int(place >> 28 > 0)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("largest_portion", [1, 13, 100_000])
def test_equals_plain_loop(seed, largest_portion, feed_in_portions, assert_events, plain_judge):
    rng = np.random.default_rng(seed)
    n = 200 if largest_portion == 1 else 1000
    steps = rng.choice([0, 1, 100, 1 << 29, PERIOD - 3], n, p=[0.3, 0.4, 0.2, 0.05, 0.05])
    pairs = np.stack([np.cumsum(steps) % PERIOD, rng.integers(0, PERIOD, n)], axis=1)
    events = feed_in_portions(DatDecoder(), pairs.astype("<u4").tobytes(), largest_portion, seed)
    times = plain_judge(pairs[:, 0].tolist(), PERIOD).times
    assert_events(events, decode_plainly(times, pairs.tolist()))


def test_time_beyond_32_bits(assert_events):
    pairs = np.array([[PERIOD - 1, 3], [2, 1 << 28 | 5 << 14 | 4]], "<u4")
    decoder = DatDecoder()
    events = Events.concatenate([decoder.feed(pairs.tobytes()), decoder.finish()])
    assert_events(events, [(PERIOD - 1, 3, 0, 0), (PERIOD + 2, 4, 5, 1)])
