"""Published tables and figures, re-derived: one module for each study.

A module or package of this folder that has ``study() -> Study`` is a study; ``mandheling
reproduce`` finds it by itself. Its name is that of the module with hyphens, its title the first
line of the module's docstring. What several studies share stands in :data:`registry.FRAME`.
"""
