"""Running SDEs: solvers, grids, simulation, sampling."""

from bridgejax.solve import grids as grids
from bridgejax.solve import solvers as solvers
from bridgejax.solve.batch import sample as sample
from bridgejax.solve.batch import simulate_batch as simulate_batch
from bridgejax.solve.simulate import Path as Path
from bridgejax.solve.simulate import simulate as simulate
from bridgejax.solve.simulate import simulate_path as simulate_path
