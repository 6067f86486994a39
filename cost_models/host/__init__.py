"""Costs on a laptop's two cores: counts that a row's time depends on, and laws fitted to them."""

from cost_models.host.features import Forms, Tiles, Work, work_of
from cost_models.host.law import HostLaws, Row, fit_laws

__all__ = ["Forms", "HostLaws", "Row", "Tiles", "Work", "fit_laws", "work_of"]
