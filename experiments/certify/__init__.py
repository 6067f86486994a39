"""Certificates: how far a plan can be from the best one, proven.

:func:`lower_bound` bounds the expected step of every plan of an encoded space;
:func:`certify_graph` finds and proves the best choice of units for a small graph of tasks.
"""

from experiments.certify.bounds import Bound, lower_bound, quick_bound

__all__ = ["Bound", "lower_bound", "quick_bound"]
