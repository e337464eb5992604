"""Which programs were compiled, by JAX's own log: how large its caches are depends on what ran before."""

import contextlib
import logging
import re

import jax


class _Names(logging.Handler):
    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        found = re.match(r"Compiling (?:jit\()?(\w+)", record.getMessage())
        if found:
            self.names.append(found[1])


@contextlib.contextmanager
def compiled():
    """A list that fills with the names of the functions that are compiled meanwhile."""
    handler, logger = _Names(), logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield handler.names
    finally:
        logger.removeHandler(handler)
