"""bridgejax."""
