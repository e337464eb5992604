"""Markov chain Monte Carlo: moves at one target, and chains annealed through the noise levels of a density."""

from bridgejax.solve.mcmc.annealing import Annealed as Annealed
from bridgejax.solve.mcmc.annealing import annealed as annealed
from bridgejax.solve.mcmc.annealing import tune as tune
from bridgejax.solve.mcmc.moves import Chain as Chain
from bridgejax.solve.mcmc.moves import Move as Move
from bridgejax.solve.mcmc.moves import Outcome as Outcome
from bridgejax.solve.mcmc.moves import hmc as hmc
from bridgejax.solve.mcmc.moves import mala as mala
from bridgejax.solve.mcmc.moves import start_chain as start_chain
from bridgejax.solve.mcmc.moves import step as step
from bridgejax.solve.mcmc.moves import uhmc as uhmc
from bridgejax.solve.mcmc.moves import ula as ula
