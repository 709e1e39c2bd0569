from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeclf_export.torch_step import step_of


def test_arrays_go_in_and_come_out_by_position_in_their_own_types() -> None:
    def module(frames: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        assert torch.is_inference_mode_enabled()
        return frames - keep, keep * 2

    found = step_of(module)([np.array([5.0, 7.0], np.float32), np.array([1.0, 2.0], np.float16)])
    assert [value.tolist() for value in found] == [[4.0, 5.0], [2.0, 4.0]]
    assert [value.dtype for value in found] == [np.float32, np.float16]


def test_an_output_that_is_an_input_shares_no_memory_with_it() -> None:
    given = np.zeros(2, np.float32)
    (found,) = step_of(lambda value: (value,))([given])
    given[:] = 9
    assert found.tolist() == [0, 0]
