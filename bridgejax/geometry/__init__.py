"""Sets that bridges may end in, and manifolds that diffusions run on."""

from bridgejax.geometry import domains as domains
from bridgejax.geometry import manifolds as manifolds
