"""Key performance indicators (KPIs) of a classifier, and their plots.

Named after, and for the functions that it shares compatible with, `metavision_ml.classification.utils_metrics`.
"""

from edgeclf.utils_metrics.calibration import Reliability, reliability
from edgeclf.utils_metrics.curves import Curve, precision_recall_curve, roc_curve
from edgeclf.utils_metrics.kpis import (
    RecordingKpis,
    compute_kpis,
    compute_recording_kpis,
    majority_vote,
    unpack_metrics_dict,
)
from edgeclf.utils_metrics.plots import (
    confusion_matrix,
    plot_cm,
    plot_precision_recall_curve,
    plot_reliability,
    plot_roc,
)
from edgeclf.utils_metrics.recording_picture import RecordingVectors
from edgeclf.utils_metrics.results import RecordingResult
from edgeclf.utils_metrics.time_to_prediction import (
    TimeToPrediction,
    calculate_time_to_prediction,
    get_1st_nonzeros,
)
from edgeclf.utils_metrics.worst import WorstRecording, evaluate_preds_seq

__all__ = [
    "Curve",
    "RecordingKpis",
    "RecordingResult",
    "RecordingVectors",
    "Reliability",
    "TimeToPrediction",
    "WorstRecording",
    "calculate_time_to_prediction",
    "compute_kpis",
    "compute_recording_kpis",
    "confusion_matrix",
    "evaluate_preds_seq",
    "get_1st_nonzeros",
    "majority_vote",
    "plot_cm",
    "plot_precision_recall_curve",
    "plot_reliability",
    "plot_roc",
    "precision_recall_curve",
    "reliability",
    "roc_curve",
    "unpack_metrics_dict",
]
