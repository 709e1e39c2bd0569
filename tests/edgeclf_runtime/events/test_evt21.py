from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.evt21 import Evt21Decoder

HIGH_PERIOD = 1 << 28


@pytest.fixture
def decode_plainly(plain_judge):
    """Decodes one 64-bit word at a time, by the vendor's description of EVT 2.1."""

    def decode(words):
        times = iter(plain_judge([(w >> 32 & 0xFFFFFFF) << 6 for w in words if w >> 60 == 0x8], 1 << 34).times)
        base = None
        for word in words:
            kind = word >> 60
            if kind == 0x8:
                base = next(times)
            elif kind in (0, 1) and base is not None:
                for column in range(32):
                    if word >> column & 1:
                        yield base + (word >> 54 & 0x3F), (word >> 43 & 0x7FF) + column, word >> 32 & 0x7FF, kind

    return decode


def random_words(rng, n):
    words = rng.integers(0, 1 << 64, n, dtype=np.uint64)
    words &= rng.integers(0, 1 << 32, n, dtype=np.uint64) | np.uint64(0xFFFFFFFF << 32)
    common = rng.random(n) < 0.7
    words[common] &= np.uint64(0x1FFFFFFF_FFFFFFFF)
    high = int(rng.integers(HIGH_PERIOD))
    for at in np.flatnonzero(rng.random(n) < 0.1):
        steps = [0, 1, 64, HIGH_PERIOD - 5, HIGH_PERIOD // 3]
        high = (high + int(rng.choice(steps, p=[0.3, 0.4, 0.1, 0.1, 0.1]))) % HIGH_PERIOD
        words[at] = 0x8 << 60 | high << 32 | int(rng.integers(1 << 32))
    return words


def as_bytes(words, legacy):
    halves = words.astype("<u8").view("<u4").reshape(-1, 2)
    return (halves[:, ::-1] if legacy else halves).tobytes()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("largest_portion", [1, 13, 100_000])
def test_equals_plain_loop(seed, legacy, largest_portion, feed_in_portions, assert_events, decode_plainly):
    n = 100 if largest_portion == 1 else 1000
    words = random_words(np.random.default_rng(seed), n)
    data = as_bytes(words, legacy)
    events = feed_in_portions(Evt21Decoder(legacy=legacy), data, largest_portion, seed)
    assert_events(events, decode_plainly(words.tolist()))


@pytest.mark.parametrize(
    ("legacy", "sent"),
    [
        # The vendor's own example of both orders: 0x0102030405060708 as the GenX320 and as the IMX636 sends it.
        (False, "0807060504030201"),
        (True, "0403020108070605"),
    ],
)
def test_order_of_bytes_in_the_vendors_example(legacy, sent, assert_events, decode_plainly):
    word = 0x0102030405060708
    time_high = as_bytes(np.array([0x8 << 60], np.uint64), legacy)
    decoder = Evt21Decoder(legacy=legacy)
    events = Events.concatenate([decoder.feed(time_high + bytes.fromhex(sent)), decoder.finish()])
    assert_events(events, decode_plainly([0x8 << 60, word]))
    assert len(events) == int.bit_count(word & 0xFFFFFFFF)
