"""What training costs on a cluster of RISC-V cores with a scratchpad: instructions, tiles, cycles.

Every step of a layer is a matrix product with work around it (:mod:`cost_models.mcu.steps`); a
product's cycles follow from the instructions of its kernel (:mod:`cost_models.mcu.products`) and a
handful of constants (:mod:`cost_models.mcu.counts`), fitted in :mod:`cost_models.mcu.fitted`.
"""
