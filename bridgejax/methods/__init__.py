"""Methods: one file each, in a folder named after what it is given; each is a function that makes a Method.

A Method learns a Process. ``MethodSpec`` is what makes one nameable at the command line.
"""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
