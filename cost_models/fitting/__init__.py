"""Calibration: measured tables become coefficients with intervals and cross-validated errors."""

from cost_models.bundle import Bundle
from cost_models.errors import CalibrationError
from cost_models.fitting.calibrate import Grouping, calibrate
from cost_models.fitting.law import Coefficient, Law, fit
from cost_models.fitting.laws import LAWS
from cost_models.fitting.table import Schema, Table, read_table

__all__ = [
    "LAWS",
    "Bundle",
    "CalibrationError",
    "Coefficient",
    "Grouping",
    "Law",
    "Schema",
    "Table",
    "calibrate",
    "fit",
    "read_table",
]
