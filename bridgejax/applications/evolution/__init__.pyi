from . import problems as problems
from ._emodm import EmoDM as EmoDM
from ._model import Evolver as Evolver
from ._model import load_evolver as load_evolver
from ._model import save_evolver as save_evolver
from ._record import Evolution as Evolution
from ._record import record as record
from ._train import train_evolver as train_evolver
