"""Data sets, batches and the readers of a user's own files."""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
