from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.evt2 import Evt2Decoder

HIGH_PERIOD = 1 << 28


@pytest.fixture
def decode_plainly(plain_judge):
    """Decodes one word at a time, by the vendor's description of EVT 2.0."""

    def decode(words):
        times = iter(plain_judge([(w & 0xFFFFFFF) << 6 for w in words if w >> 28 == 0x8], 1 << 34).times)
        base = None
        for word in words:
            kind = word >> 28
            if kind == 0x8:
                base = next(times)
            elif kind in (0, 1) and base is not None:
                yield base + (word >> 22 & 0x3F), word >> 11 & 0x7FF, word & 0x7FF, kind

    return decode


def whole(decoder, words):
    return Events.concatenate([decoder.feed(words.tobytes()), decoder.finish()])


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
    return np.concatenate([time_words(int(words[0]) & 0xFFFFFFF), words])


def time_words(last):
    """So many time words, each 1024 µs after the one before, that the time is beyond doubt."""
    return np.array([0x8 << 28 | (last - 16 * k) % HIGH_PERIOD for k in range(9, -1, -1)], np.uint32)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("largest_portion", [1, 7, 300, 100_000])
def test_equals_plain_loop(seed, largest_portion, feed_in_portions, assert_events, decode_plainly):
    n = 300 if largest_portion == 1 else 2000
    words = random_words(np.random.default_rng(seed), n)
    events = feed_in_portions(Evt2Decoder(), words.astype("<u4").tobytes(), largest_portion, seed)
    assert_events(events, decode_plainly(words.tolist()))


def test_equals_plain_loop_on_noise_of_more_than_a_block(assert_events, decode_plainly):
    words = np.random.default_rng(0).integers(0, 1 << 32, 150_000, dtype=np.uint32)
    words = np.concatenate([time_words(5_000_000), words])
    decoder = Evt2Decoder()
    assert_events(whole(decoder, words), decode_plainly(words.tolist()))
    assert decoder.damage["words of unknown type"] == np.isin(words >> 28, [2, 3, 4, 5, 6, 7, 9, 11, 12, 13]).sum()


def test_time_beyond_34_bits(assert_events):
    def event(low):
        return 1 << 28 | low << 22 | 5 << 11 | 6

    highs = [HIGH_PERIOD - 1, 0, 1]
    words = np.array([w for high in highs for w in (0x8 << 28 | high, event(63))], "<u4")
    t = 1 << 34
    assert_events(whole(Evt2Decoder(), words), [(t - 1, 5, 6, 1), (t + 63, 5, 6, 1), (t + 127, 5, 6, 1)])


def test_incomplete_word_is_kept_and_told_at_the_end():
    decoder = Evt2Decoder()
    word = (0x8 << 28).to_bytes(4, "little")
    assert len(decoder.feed(word + word[:3])) == 0
    assert decoder.damage == {}
    assert len(decoder.feed(word[3:] + b"\0\0\0\0\0")) + len(decoder.finish()) == 1
    assert decoder.damage == {"bytes of an incomplete word at the end": 1}
    assert decoder.problems_of("a.raw") == [
        "a.raw was cut off: 1 byte(s) of an incomplete word at its end were ignored."
    ]


def test_time_as_far_as_it_has_come_without_events():
    decoder = Evt2Decoder()
    assert decoder.time_us is None
    for k in range(200):
        decoder.feed(np.array([0x8 << 28 | 1000 + k], "<u4").tobytes())
    assert decoder.time_us == 1199 * 64


def test_stream_without_a_second_time_word_does_not_wait_for_ever():
    decoder = Evt2Decoder()
    events = np.full(100_000, 1 << 28, "<u4").tobytes()
    decoder.feed(np.array([0x8 << 28 | 5], "<u4").tobytes())
    found = [len(decoder.feed(events)) for _ in range(20)]
    assert sum(found) > 1_700_000
    assert sum(found) + len(decoder.finish()) == 2_000_000
