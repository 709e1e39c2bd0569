from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.streaming.prediction import StreamPrediction


@pytest.fixture
def predicted(tiny: Contract) -> Callable[..., StreamPrediction]:
    """Makes a prediction whose numbers tell its stream and frame."""

    def predict(frame: int, stream: int = 0, class_id: int | None = None, **changed: object) -> StreamPrediction:
        best = frame % len(tiny.labels) if class_id is None else class_id
        probabilities = np.full(len(tiny.labels), 0.05)
        probabilities[best] = 0.85 - stream / 100
        fields = {
            "stream": stream,
            "source": f"rec{stream}.raw",
            "frame": frame,
            "t_us": (frame + 1) * tiny.delta_t,
            "class_id": best,
            "label": tiny.labels[best],
            "score": probabilities[best],
            "accepted": best > 0,
            "probabilities": tuple(probabilities.tolist()),
            "reset": frame == 0,
            "latency_us": 812.4,
        }
        return StreamPrediction(**(fields | changed))

    return predict
