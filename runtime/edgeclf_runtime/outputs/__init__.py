"""Where predictions go: lines, files, videos, the terminal; one module each behind a small abstract base."""

from edgeclf_runtime.outputs.base import PredictionOutput
from edgeclf_runtime.outputs.hdf5 import Hdf5Output
from edgeclf_runtime.outputs.json_lines import JsonLinesOutput
from edgeclf_runtime.outputs.live_line import LiveLine
from edgeclf_runtime.outputs.video import VideoOutput

__all__ = ["Hdf5Output", "JsonLinesOutput", "LiveLine", "PredictionOutput", "VideoOutput"]
