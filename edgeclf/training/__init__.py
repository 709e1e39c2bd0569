"""Training a classifier on a data set folder."""

from edgeclf.training.options import (
    LOGGERS,
    LoggerName,
    TrainerOptions,
    TrainingResult,
    balanced_class_weights,
    hyperparameters_for,
)
from edgeclf.training.run import train

__all__ = [
    "LOGGERS",
    "LoggerName",
    "TrainerOptions",
    "TrainingResult",
    "balanced_class_weights",
    "hyperparameters_for",
    "train",
]
