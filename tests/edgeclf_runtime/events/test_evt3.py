from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.evt3 import Evt3Decoder


@pytest.fixture
def decode_plainly(plain_judge):
    """Decodes one word at a time, by the vendor's description of EVT 3.0."""

    def decode(words):
        times = iter(plain_judge([(w & 0xFFF) << 12 for w in words if w >> 12 == 0x8], 1 << 24).times)
        high = y = base = None
        low = base_p = 0
        for word in words:
            kind, value = word >> 12, word & 0xFFF
            if kind == 0x8:
                time = next(times)
                low = low if time == high else 0
                high = time
                continue
            if high is None:
                continue
            t = high + low
            if kind == 0x6:
                low = value
            elif kind == 0x0:
                y = value & 0x7FF
            elif kind == 0x2 and y is not None:
                yield t, value & 0x7FF, y, value >> 11
            elif kind == 0x3:
                base, base_p = value & 0x7FF, value >> 11
            elif kind in (0x4, 0x5) and base is not None:
                columns = 12 if kind == 0x4 else 8
                for column in range(columns):
                    if value >> column & 1 and y is not None:
                        # Beyond 61440 the decoder stops counting columns, so that they never wrap into the sensor.
                        yield t, min(base, 0xF000) + column, y, base_p
                base += columns

    return decode


def random_words(rng, n, probabilities):
    """Words of all types, with time moving on, standing, rolling over and stepping back."""
    kinds = rng.choice(16, n, p=probabilities)
    words = kinds << 12 | rng.integers(0, 4096, n)
    high = first = int(rng.integers(4096))
    for at in np.flatnonzero(kinds == 8):
        steps = [0, 1, 1000, 4090, 4095, 2000, 3000]
        high = (high + int(rng.choice(steps, p=[0.4, 0.3, 0.1, 0.05, 0.05, 0.05, 0.05]))) % 4096
        words[at] = 0x8 << 12 | high
    good = [0x8 << 12 | (first + k) % 4096 for k in range(-9, 1)]  # that the time is beyond doubt
    return np.concatenate([good, words]).astype("<u2")


EVEN = np.full(16, 1 / 16)
SINGLES = np.array([20, 0, 60, 0, 0, 0, 10, 0, 10, 0, 0, 0, 0, 0, 0, 0]) / 100
VECTORS = np.array([8, 0, 1, 15, 30, 20, 6, 5, 5, 0, 5, 0, 0, 0, 5, 0]) / 100


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("probabilities", [EVEN, SINGLES, VECTORS], ids=["even", "singles", "vectors"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("largest_portion", [1, 5, 300, 100_000])
def test_equals_plain_loop(seed, probabilities, largest_portion, feed_in_portions, assert_events, decode_plainly):
    n = 300 if largest_portion == 1 else 3000
    words = random_words(np.random.default_rng(seed), n, probabilities)
    events = feed_in_portions(Evt3Decoder(), words.tobytes(), largest_portion, seed)
    assert_events(events, decode_plainly(words.tolist()))


@pytest.mark.parametrize("probabilities", [EVEN, SINGLES, VECTORS], ids=["even", "singles", "vectors"])
def test_equals_plain_loop_beyond_a_block(probabilities, assert_events, decode_plainly):
    words = random_words(np.random.default_rng(0), 300_000, probabilities)
    decoder = Evt3Decoder()
    assert_events(whole(decoder, words), decode_plainly(words.tolist()))
    unknown = int(np.isin(words >> 12, [1, 9, 11, 12, 13]).sum())
    assert decoder.damage.get("words of unknown type", 0) == unknown


def whole(decoder, words):
    return Events.concatenate([decoder.feed(np.array(words, "<u2").tobytes()), decoder.finish()])


def decode(*words):
    return whole(Evt3Decoder(), words)


def test_vectors_go_on_where_others_stand_among_them(assert_events):
    events = decode(0x8001, 0x6002, 0x0007, 0x3820, 0x4801, 0xA000, 0xE123, 0x7001, 0xF00F, 0x4001, 0x5F81)
    t = 1 << 12 | 2
    assert_events(events, [(t, x, 7, 1) for x in (32, 32 + 11, 32 + 12, 32 + 24, 32 + 24 + 7)])


def test_single_events_leave_the_vector_base_alone(assert_events):
    events = decode(0x8000, 0x0001, 0x3010, 0x4001, 0x2805, 0x0002, 0x6009, 0x5001)
    assert_events(events, [(0, 16, 1, 0), (0, 5, 1, 1), (9, 28, 2, 0)])


def test_words_that_cannot_be_placed_are_dropped(assert_events):
    before_time = (0x6005, 0x0003, 0x3001, 0x2001, 0x4001)
    before_row = (0x8001, 0x2001, 0x4001)
    before_base = (0x0004, 0x4FFF, 0x2002)
    assert_events(decode(*before_time, *before_row, *before_base), [(1 << 12, 2, 4, 0)])


def test_new_high_time_starts_at_its_beginning_and_a_repeated_one_changes_nothing(assert_events):
    events = decode(0x8001, 0x6FFF, 0x0000, 0x2001, 0x8001, 0x2002, 0x8002, 0x2003, 0x6001, 0x2004)
    times = (0x1FFF, 0x1FFF, 0x2000, 0x2001)
    assert_events(events, [(t, x, 0, 0) for x, t in enumerate(times, 1)])


def test_time_beyond_24_bits_across_silence(assert_events):
    # 40 s without events, in which the sensor goes on sending the high time every 4096 µs.
    silence = [0x8000 | high % 4096 for high in range(10_000)]
    events = decode(*silence, 0x6003, 0x0001, 0x2001)
    assert_events(events, [(9999 * 4096 + 3, 1, 1, 0)])


def test_time_does_not_jump_when_the_high_time_steps_back_over_its_roll_over(assert_events):
    words = [0x8FFF, 0x0001, 0x2001, 0x8000, 0x2002, 0x8FFF, 0x2003, 0x8000, 0x2004]
    times = (0xFFF000, 0x1000000, 0xFFF000, 0x1000000)
    assert_events(decode(*words), [(t, x, 1, 0) for x, t in enumerate(times, 1)])


def test_one_damaged_time_word_moves_no_other_event():
    """By a bit of every place: 8 to 8,388,608 µs, and with a roll-over in between."""
    words = [w for high in range(4000, 4200) for w in (0x8000 | high % 4096, 0x6005, 0x0001, 0x2001)]
    good = whole(Evt3Decoder(), words).t
    for bit in range(12):
        damaged = list(words)
        damaged[4 * 120] ^= 1 << bit
        found = whole(Evt3Decoder(), damaged).t
        apart = np.flatnonzero(found != good)
        assert apart.tolist() in ([], [120])
        assert abs(int(found[120] - good[120])) <= 2 * 4096


def test_time_as_far_as_it_has_come_without_events():
    decoder = Evt3Decoder()
    assert decoder.time_us is None
    whole(decoder, [0x8000 | high % 4096 for high in range(4000, 4200)] + [0x6123])
    assert decoder.time_us == 4199 * 4096 + 0x123
