from __future__ import annotations

import numpy as np

from edgeclf_runtime.events import Events


def test_concatenate_and_select(assert_events):
    one = Events(np.array([1, 2]), *(np.array([3, 4], d) for d in ("u2", "u2", "u1")))
    both = Events.concatenate(batch for batch in (one, one[1:]))
    assert_events(both, [(1, 3, 3, 3), (2, 4, 4, 4), (2, 4, 4, 4)])
    assert_events(both[both.t < 2], [(1, 3, 3, 3)])


def test_nothing_concatenates_to_no_events(assert_events):
    assert_events(Events.concatenate([]), [])
    assert len(Events.empty()) == 0
