"""Techniques in combination under one budget of memory and of energy, judged by real trainings."""
