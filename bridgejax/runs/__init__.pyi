from .directory import load as load
from .run import Run as Run
