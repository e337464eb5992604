"""Given an SDE and observations of it."""
