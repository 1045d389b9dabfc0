"""What ports are known to do otherwise: each is tried on torch's own step, and named if it fits."""
