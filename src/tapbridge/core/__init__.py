"""The verbs: pure functions over the model. No I/O, no clock, no environment."""
