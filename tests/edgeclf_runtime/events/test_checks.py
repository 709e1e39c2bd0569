from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.checks import Checks
from edgeclf_runtime.events.dat import DatDecoder
from edgeclf_runtime.events.steady import SteadyTime

SIZE = (20, 10)


def some_events(rng, count):
    """Events of which some lie outside of `SIZE`, with times that step back now and then."""
    t = np.cumsum(rng.choice([0, 1, 5, -3], count, p=[0.3, 0.4, 0.2, 0.1]))
    return Events(t, rng.integers(0, 22, count, "u2"), rng.integers(0, 11, count, "u2"), np.zeros(count, np.uint8))


@pytest.mark.parametrize("seed", range(10))
def test_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    batches = [some_events(rng, int(count)) for count in rng.integers(0, 30, 6)]
    checks = Checks("a.raw", SIZE, SteadyTime())
    found = [checks.inside(batch) for batch in batches]

    inside, outside, back, farthest = [], 0, 0, 0
    for batch in batches:
        for t, x, y in zip(batch.t.tolist(), batch.x.tolist(), batch.y.tolist(), strict=True):
            if x >= SIZE[0] or y >= SIZE[1]:
                outside += 1
                continue
            if inside and t < inside[-1]:
                back, farthest = back + 1, max(farthest, inside[-1] - t)
            inside.append(t)

    assert Events.concatenate(found).t.tolist() == inside
    counts = {"events outside the sensor": outside, "steps back in time": back}
    assert checks.damage == {kind: count for kind, count in counts.items() if count}
    assert checks.problems == [
        f"{outside} event(s) of a.raw outside the sensor (20x10) were dropped.",
        f"The time-stamps of a.raw step back {back} time(s), by up to {farthest} µs.",
    ]


def test_a_batch_that_is_good_is_given_on_as_it_is():
    checks = Checks("a.raw", SIZE, SteadyTime())
    events = Events(np.arange(3), *np.zeros((2, 3), np.uint16), np.zeros(3, np.uint8))
    assert checks.inside(events) is events
    assert (checks.damage, checks.problems) == ({}, [])


def test_what_waits_in_the_decoder_comes_last_and_before_a_failure():
    words = np.array([[0, 0], [1_000_000, 0]], "<u4").tobytes()  # the second time needs proof
    failure = DamagedInputError("a.dat is damaged.")
    for fails in (False, True):
        decoder = DatDecoder()

        def batches(decoder=decoder, fails=fails):
            yield decoder.feed(words + b"123")
            if fails:
                raise failure

        checks = Checks("a.dat", SIZE, decoder)
        iterator = checks.checked(batches())
        assert [next(iterator).t.tolist(), next(iterator).t.tolist()] == [[], [0, 1_000_000]]
        assert checks.damage == {"bytes of an incomplete word at the end": 3}
        if fails:
            with pytest.raises(DamagedInputError, match=r"a\.dat is damaged"):
                next(iterator)
        assert list(iterator) == []
