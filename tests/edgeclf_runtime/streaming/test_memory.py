from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.streaming import ClearEvery, ClearOnLowActivity, NeverClear, memory_policy


def cleared(policy, frames):
    clears = policy.start()
    return [k for k, frame in enumerate(frames) if clears(frame)]


def by_loop(frames, level, count):
    """Low activity, a pixel at a time."""
    found, quiet = [], 0
    for k, frame in enumerate(frames):
        channels, rows, columns = frame.shape
        active = sum(any(frame[c, y, x] != 0 for c in range(channels)) for y in range(rows) for x in range(columns))
        if active / (rows * columns) < level:
            quiet += 1
            if quiet == count:
                found.append(k)
        else:
            quiet = 0
    return found


def frames_of(shares, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.random((2, 6, 8)) < share).astype(np.float32) * rng.choice([-1, 0.5]) for share in shares]


@pytest.mark.parametrize("level", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 3])
def test_low_activity_against_a_plain_loop(level, count):
    shares = np.repeat([0.6, 0.0, 0.4, 0.01, 0.6, 0.1, 0.02], [3, 5, 2, 2, 1, 4, 9])
    frames = frames_of(np.random.default_rng(1).permutation(shares)) + frames_of(shares)
    assert cleared(ClearOnLowActivity(level, count), frames) == by_loop(frames, level, count)


def test_low_activity_clears_once_a_quiet_period():
    shares = [0.5] * 2 + [0.0] * 7 + [0.5] + [0.0] * 2 + [0.5] + [0.0] * 3
    assert cleared(ClearOnLowActivity(0.1, 3), frames_of(shares)) == [4, 15]


def test_a_share_at_the_level_is_not_quiet():
    frame = np.zeros((2, 5, 8), np.float32)
    frame[1, 0, :4] = 1
    assert cleared(ClearOnLowActivity(0.1, 1), [frame]) == []
    frame[1, 0, 0] = 0
    assert cleared(ClearOnLowActivity(0.1, 1), [frame]) == [0]


def test_every():
    assert cleared(ClearEvery(4), frames_of([0.5] * 11)) == [0, 4, 8]


def test_never():
    assert cleared(NeverClear(), frames_of([0.0] * 50)) == []


@pytest.mark.parametrize("policy", [ClearEvery(3), ClearOnLowActivity(0.1, 2)])
def test_one_stream_does_not_count_for_another(policy):
    first, second = policy.start(), policy.start()
    quiet = np.zeros((1, 2, 2), np.float32)
    alone = cleared(policy, [quiet] * 7)
    assert [k for k in range(7) if first(quiet)] == alone
    assert [k for k in range(7) if second(quiet)] == alone


def test_by_name():
    assert memory_policy("never") == NeverClear()
    assert memory_policy("every", 30) == ClearEvery(30)
    assert memory_policy("low-activity") == ClearOnLowActivity()
    assert memory_policy("low-activity", 7, 0.2) == ClearOnLowActivity(0.2, 7)
    for name in ("never", "every", "low-activity"):
        policy = memory_policy(name, 5 if name == "every" else None)
        assert policy.name == name
        assert str(policy).startswith(name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("every",), "wants a number of frames"),
        (("every", 0), "1 frame or more"),
        (("low-activity", -1), "1 frame or more"),
        (("low-activity", 3, 0.0), "over 0 up to 1"),
        (("low-activity", 3, 1.5), "over 0 up to 1"),
        (("every", 3, 0.1), "not for every"),
        (("never", 3), "not for never"),
    ],
)
def test_what_does_not_fit(arguments, said):
    with pytest.raises(UsageError, match=said):
        memory_policy(*arguments)
