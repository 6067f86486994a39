"""Policies: who decides what a plan says. See :mod:`sim.policies.base` to write one."""

from sim.policies.backward import Filtered
from sim.policies.base import (
    BackwardPolicy,
    BatchSplitPolicy,
    GroupingPolicy,
    OptimiserPolicy,
    PlacementPolicy,
    Policy,
    PolicyError,
    PrecisionPolicy,
    RescalePolicy,
    Situation,
)
from sim.policies.build import build, build_plan, decide, plan_names
from sim.policies.recipes import BASELINES, POLICIES, RECIPES, TECHNIQUES, Recipe, RecipeError

__all__ = [
    "BASELINES",
    "POLICIES",
    "RECIPES",
    "TECHNIQUES",
    "BackwardPolicy",
    "BatchSplitPolicy",
    "Filtered",
    "GroupingPolicy",
    "OptimiserPolicy",
    "PlacementPolicy",
    "Policy",
    "PolicyError",
    "PrecisionPolicy",
    "Recipe",
    "RecipeError",
    "RescalePolicy",
    "Situation",
    "build",
    "build_plan",
    "decide",
    "plan_names",
]
