"""A run from words: its configuration, the method that it names, the roles of its data, its directory."""

import lazy_loader

# words are looked at before jax is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
