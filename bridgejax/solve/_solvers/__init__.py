"""Solvers: one step of a diffrax solver each; ``bridgejax.solvers`` names them."""
