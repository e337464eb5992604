"""Runs of the command line: configuration, the method that it names, the data, the directory that is left."""

import lazy_loader

# words are looked at before jax is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
