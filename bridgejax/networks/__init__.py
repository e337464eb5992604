"""Networks `f(t, x, args)` for one sample, and `functional`, which makes them pure functions."""

from bridgejax.networks._energy import energy as energy
from bridgejax.networks._hold import hold as hold
from bridgejax.networks.embedding import Embedding as Embedding
from bridgejax.networks.embedding import fourier_features as fourier_features
from bridgejax.networks.fallback import or_mlp as or_mlp
from bridgejax.networks.mlp import MLP as MLP
from bridgejax.networks.preconditioning import Coefficients as Coefficients
from bridgejax.networks.preconditioning import Precondition as Precondition
from bridgejax.networks.preconditioning import coefficients as coefficients
from bridgejax.networks.preconditioning import edm_precondition as edm_precondition
from bridgejax.networks.preconditioning import precondition as precondition
from bridgejax.networks.pure import Apply as Apply
from bridgejax.networks.pure import Functional as Functional
from bridgejax.networks.pure import count_params as count_params
from bridgejax.networks.pure import functional as functional
from bridgejax.networks.set_network import Present as Present
from bridgejax.networks.set_network import SetTransformer as SetTransformer
from bridgejax.networks.temporal_unet import TemporalUNet as TemporalUNet
from bridgejax.networks.transformer import Transformer as Transformer
from bridgejax.networks.unet import UNet as UNet
from bridgejax.networks.weights import load_weights as load_weights
from bridgejax.networks.weights import save_weights as save_weights

__all__ = [
    "MLP",
    "Apply",
    "Coefficients",
    "Embedding",
    "Functional",
    "Precondition",
    "Present",
    "SetTransformer",
    "TemporalUNet",
    "Transformer",
    "UNet",
    "coefficients",
    "count_params",
    "edm_precondition",
    "energy",
    "fourier_features",
    "functional",
    "hold",
    "load_weights",
    "or_mlp",
    "precondition",
    "save_weights",
]


def __dir__() -> list[str]:
    return __all__
