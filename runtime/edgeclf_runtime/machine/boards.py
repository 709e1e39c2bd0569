"""Small computers that want wheels of their own: NVIDIA's Jetson and the Raspberry Pi."""

from __future__ import annotations

from pathlib import Path


def board_model(root: Path = Path("/")) -> str | None:
    """Returns what the board's firmware calls it, e.g. `Raspberry Pi 5 Model B Rev 1.0`; None where it has no name.

    Args:
        root: Where the file system starts.
    """
    try:
        return (root / "proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this is a Jetson: NVIDIA's Linux for it leaves a file, which containers may lack, as they may the model.

    Args:
        root: Where the file system starts.
    """
    model = board_model(root) or ""
    return (root / "etc/nv_tegra_release").exists() or "Jetson" in model


def is_raspberry_pi(root: Path = Path("/")) -> bool:
    """Whether this is a Raspberry Pi.

    Args:
        root: Where the file system starts.
    """
    return (board_model(root) or "").startswith("Raspberry Pi")
