"""The probes: one module for each protocol that a check can speak."""
