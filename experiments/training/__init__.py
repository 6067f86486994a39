"""Training for real while a phone is simulated: configuration, loop, checkpoints, comparison."""
