from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events.evt2 import Evt2Decoder

HIGH_PERIOD = 1 << 28


def decode_plainly(words):
    """Decodes one word at a time, by the vendor's description of EVT 2.0."""
    high, rolled = None, 0
    for word in words:
        kind = word >> 28
        if kind == 0x8:
            new = word & 0xFFFFFFF
            if high is not None and high - new > HIGH_PERIOD // 2:
                rolled += 1
            elif high is not None and rolled and new - high > HIGH_PERIOD - HIGH_PERIOD // 16:
                rolled -= 1
            high = new
        elif kind in (0, 1) and high is not None:
            t = (rolled * HIGH_PERIOD + high) * 64 + (word >> 22 & 0x3F)
            yield t, word >> 11 & 0x7FF, word & 0x7FF, kind


def random_words(rng, n):
    """Words of all types, with time moving on, standing, rolling over and stepping back."""
    words = rng.integers(0, 1 << 32, n, dtype=np.uint32)
    common = rng.random(n) < 0.7
    words[common] &= 0x1FFFFFFF
    high = int(rng.integers(HIGH_PERIOD))
    for at in np.flatnonzero(rng.random(n) < 0.1):
        steps = [0, 1, 64, 9999, HIGH_PERIOD - 5, HIGH_PERIOD - 1, HIGH_PERIOD // 3]
        high = (high + int(rng.choice(steps, p=[0.2, 0.4, 0.1, 0.1, 0.05, 0.05, 0.1]))) % HIGH_PERIOD
        words[at] = 0x8 << 28 | high
    return words


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("largest_portion", [1, 7, 300, 100_000])
def test_equals_plain_loop(seed, largest_portion, feed_in_portions, assert_events):
    n = 300 if largest_portion == 1 else 2000
    words = random_words(np.random.default_rng(seed), n)
    events = feed_in_portions(Evt2Decoder(), words.astype("<u4").tobytes(), largest_portion, seed)
    assert_events(events, decode_plainly(words.tolist()))


def test_equals_plain_loop_on_noise_of_more_than_a_block(assert_events):
    words = np.random.default_rng(0).integers(0, 1 << 32, 150_000, dtype=np.uint32)
    assert_events(Evt2Decoder().feed(words.tobytes()), decode_plainly(words.tolist()))


def test_time_beyond_34_bits(assert_events):
    def event(low):
        return 1 << 28 | low << 22 | 5 << 11 | 6

    highs = [HIGH_PERIOD - 1, 0, 1]
    words = np.array([w for high in highs for w in (0x8 << 28 | high, event(63))], "<u4")
    t = 1 << 34
    assert_events(Evt2Decoder().feed(words.tobytes()), [(t - 1, 5, 6, 1), (t + 63, 5, 6, 1), (t + 127, 5, 6, 1)])


def test_incomplete_word_is_kept():
    decoder = Evt2Decoder()
    word = (0x8 << 28).to_bytes(4, "little")
    assert len(decoder.feed(word + word[:3])) == 0
    assert decoder.incomplete_bytes == 3
    assert len(decoder.feed(word[3:] + b"\0\0\0\0")) == 1
    assert decoder.incomplete_bytes == 0
