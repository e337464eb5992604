"""Pictures that show at a glance whether a model works: generated beside real, on one scale.

Every function writes one PNG and returns its path. Matplotlib is imported when a picture is drawn, and its global state
(pyplot, the backend) is never touched, so that pictures can be drawn in a thread, without a display, or in a notebook.
"""

from bridgejax.evaluation._angles import angle_pairs as angle_pairs
from bridgejax.evaluation._angles import rotations as rotations
from bridgejax.evaluation._columns import marginals as marginals
from bridgejax.evaluation._columns import scatter as scatter
from bridgejax.evaluation._explanation_picture import explanation as explanation
from bridgejax.evaluation._globe import globe as globe
from bridgejax.evaluation._image_grids import image_grid as image_grid
from bridgejax.evaluation._loss_curves import loss_curve as loss_curve
from bridgejax.evaluation._prediction_pictures import predictions as predictions

__all__ = [
    "angle_pairs",
    "explanation",
    "globe",
    "image_grid",
    "loss_curve",
    "marginals",
    "predictions",
    "rotations",
    "scatter",
]
