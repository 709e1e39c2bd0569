from __future__ import annotations

import pytest

from edgeclf_runtime.machine.boards import board_model, is_jetson, is_raspberry_pi


@pytest.mark.parametrize(
    ("model", "release", "jetson", "pi"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", False, False, True),
        ("NVIDIA Jetson Orin Nano Developer Kit\0", True, True, False),
        ("NVIDIA Jetson AGX Orin\0", False, True, False),
        (None, True, True, False),  # a container that was given the release file alone
        (None, False, False, False),
    ],
)
def test_boards_are_recognised(tmp_path, model, release, jetson, pi):
    for path, content in (("proc/device-tree/model", model), ("etc/nv_tegra_release", "# R36" if release else None)):
        (tmp_path / path).parent.mkdir(parents=True)
        if content is not None:
            (tmp_path / path).write_text(content)
    assert board_model(tmp_path) == (model and model.rstrip("\0"))
    assert (is_jetson(tmp_path), is_raspberry_pi(tmp_path)) == (jetson, pi)
