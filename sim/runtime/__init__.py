"""Run-time management of a network that can be scaled: which part, where, and at which clock.

A table of operating rows is simulated once (:mod:`sim.runtime.table`). From frame to frame a
manager picks one under a budget (:mod:`sim.runtime.managers`), while budgets change and other apps
take cores (:mod:`sim.runtime.episode`).
"""

from sim.runtime.budget import Budget, Pick, choose
from sim.runtime.episode import Circumstances, Episode, run_episode
from sim.runtime.managers import MANAGERS, Manager
from sim.runtime.table import Row, RuntimeTable, runtime_table
from sim.state import ManagerState

__all__ = [
    "MANAGERS",
    "Budget",
    "Circumstances",
    "Episode",
    "Manager",
    "ManagerState",
    "Pick",
    "Row",
    "RuntimeTable",
    "choose",
    "run_episode",
    "runtime_table",
]
