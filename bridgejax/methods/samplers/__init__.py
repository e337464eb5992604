"""Given a density up to its constant: draws of it, with weights."""
