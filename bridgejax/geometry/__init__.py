"""Sets that bridges may end in."""

from bridgejax.geometry import domains as domains
