"""SDE -> SDE transforms, interpolants and prediction conversions."""

from bridgejax.bridges import compose as compose
from bridgejax.bridges import guidance as guidance
from bridgejax.bridges import interpolants as interpolants
from bridgejax.bridges import predictions as predictions
from bridgejax.bridges import x_bridges as x_bridges
from bridgejax.bridges._reverse import probability_flow as probability_flow
from bridgejax.bridges._reverse import reverse as reverse
from bridgejax.bridges._stopped import stop as stop
from bridgejax.bridges._transport import transport as transport
from bridgejax.bridges.constrained import constrain as constrain
from bridgejax.bridges.guided import Guided as Guided
from bridgejax.bridges.guided import Observation as Observation
from bridgejax.bridges.guided import guide as guide
from bridgejax.bridges.interpolants import Interpolant as Interpolant
from bridgejax.bridges.pinned import pin as pin
from bridgejax.bridges.teleportation import teleport as teleport
from bridgejax.bridges.transforms import clamp as clamp
from bridgejax.bridges.transforms import control as control
from bridgejax.bridges.transforms import doob as doob

__all__ = [
    "Guided",
    "Interpolant",
    "Observation",
    "clamp",
    "compose",
    "constrain",
    "control",
    "doob",
    "guidance",
    "guide",
    "interpolants",
    "pin",
    "predictions",
    "probability_flow",
    "reverse",
    "stop",
    "teleport",
    "transport",
    "x_bridges",
]


def __dir__() -> list[str]:
    return __all__
