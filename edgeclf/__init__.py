"""The workstation: models, data sets, training and KPIs of event-camera classifiers.

Importing this package imports no torch: the command line lives here and must start on a device.
"""

from __future__ import annotations
