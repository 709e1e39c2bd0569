"""What tests share: the real recordings, and small trained-looking classifiers and data sets made once a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Tests run in as many processes as there are cores; more threads in each would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings; the test is skipped, saying so, where it is not there."""
    folder = Path(os.environ.get("EDGECLF_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not at {folder}; set EDGECLF_TEST_DATA to their folder")
    return folder
