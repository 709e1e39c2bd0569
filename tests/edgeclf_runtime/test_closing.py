from __future__ import annotations

import pytest

from edgeclf_runtime.closing import Closing


class Opened(Closing):
    closed = 0

    def close(self):
        self.closed += 1


def test_the_end_of_the_block_closes():
    with Opened() as opened:
        assert opened.closed == 0
    assert opened.closed == 1


def test_an_error_closes_and_goes_on():
    opened = Opened()
    with pytest.raises(ZeroDivisionError), opened:
        raise ZeroDivisionError
    assert opened.closed == 1
