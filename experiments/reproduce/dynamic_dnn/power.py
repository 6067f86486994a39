"""Board power against the clock of four busy cores: fitted, and each point left out in turn."""

from __future__ import annotations

from cost_models.board_power import fit_board_power, left_out, published_sweep
from experiments.reproduce.study import Row

SOURCE = "ThomasKaiser/sbc-bench Efficiency_Graphing.md, ODROID-HC2 at the wall"


def largest_error() -> float:
    """Largest error of the fit to all points, W."""
    sweep = published_sweep()
    fitted = fit_board_power(sweep)
    return max(abs(fitted.watts(point.mhz) - point.board_mw / 1000) for point in sweep)


def power_rows() -> tuple[Row, ...]:
    """Each point of the sweep by the fit to all, and by the fit to all others."""
    sweep = published_sweep()
    fitted, apart = fit_board_power(sweep), left_out(sweep)
    rows = []
    for point, predicted in zip(sweep, apart, strict=True):
        watts = point.board_mw / 1000
        for value, is_fit in ((fitted.watts(point.mhz), True), (predicted, False)):
            row = Row(
                f"{point.mhz} MHz" + ("" if is_fit else ", left out"),
                watts,
                value,
                fitted=is_fit,
                source=SOURCE,
                unit="W",
                group="board power, 4 x Cortex-A15",
                absolute=True,
                left_out=not is_fit,
            )
            rows.append(row)
    return tuple(rows)
