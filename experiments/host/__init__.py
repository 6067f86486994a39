"""How well the simulator predicts plans that two processes of this machine run for real."""
