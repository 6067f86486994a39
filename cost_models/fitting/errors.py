"""What can go wrong between a table of measured numbers and a calibration bundle."""

from __future__ import annotations


class CalibrationError(ValueError):
    """A fit cannot be carried out; the message is one line that says what to correct or measure."""
