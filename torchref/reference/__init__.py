"""What torch computed, in float64, and how far float32's rounding alone may move it."""
