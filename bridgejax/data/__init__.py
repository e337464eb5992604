"""Data sets, batches and the readers of a user's own files."""

from bridgejax.data import toys as toys
from bridgejax.data.arrays import Dataset as Dataset
from bridgejax.data.arrays import from_array as from_array
from bridgejax.data.arrays import split as split
from bridgejax.data.batches import Batches as Batches
from bridgejax.data.batches import NoData as NoData
from bridgejax.data.batches import Pairs as Pairs
from bridgejax.data.batches import Passes as Passes
from bridgejax.data.batches import prefetch as prefetch
from bridgejax.data.loading import NAMES as NAMES
from bridgejax.data.loading import load as load
from bridgejax.data.reading import Reading as Reading
