"""The theory, runnable: the function that a network descends, and the methods as optimizers of it, in float64."""
