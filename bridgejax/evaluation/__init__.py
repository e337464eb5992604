"""Reports with floors, feature distances, two-sample tests and pictures."""

from bridgejax.evaluation._c2st import C2ST as C2ST
from bridgejax.evaluation._c2st import c2st as c2st
from bridgejax.evaluation._c2st import c2st_accuracy as c2st_accuracy
from bridgejax.evaluation.explanation import emergence_levels as emergence_levels
from bridgejax.evaluation.explanation import explained_score as explained_score
from bridgejax.evaluation.explanation import kick_response as kick_response
from bridgejax.evaluation.explanation import trajectory_dimension as trajectory_dimension
from bridgejax.evaluation.features import FeatureMap as FeatureMap
from bridgejax.evaluation.features import classifier_features as classifier_features
from bridgejax.evaluation.features import identity_features as identity_features
from bridgejax.evaluation.features import pca_features as pca_features
from bridgejax.evaluation.kernel_density import KernelDensity as KernelDensity
from bridgejax.evaluation.kernel_density import kernel_density as kernel_density
from bridgejax.evaluation.memorisation import Memorised as Memorised
from bridgejax.evaluation.memorisation import TwoHalves as TwoHalves
from bridgejax.evaluation.memorisation import memorised as memorised
from bridgejax.evaluation.memorisation import two_halves as two_halves
from bridgejax.evaluation.on_manifold import evaluate_on_manifold as evaluate_on_manifold
from bridgejax.evaluation.predictive import Forecast as Forecast
from bridgejax.evaluation.predictive import PredictionReport as PredictionReport
from bridgejax.evaluation.predictive import evaluate_predictions as evaluate_predictions
from bridgejax.evaluation.records import Metric as Metric
from bridgejax.evaluation.records import Report as Report
from bridgejax.evaluation.report import evaluate as evaluate
from bridgejax.evaluation.sampler import Modes as Modes
from bridgejax.evaluation.sampler import SamplerReport as SamplerReport
from bridgejax.evaluation.sampler import evaluate_sampler as evaluate_sampler
from bridgejax.evaluation.sampler import modes_of as modes_of
from bridgejax.evaluation.simple_models import simple_denoisers as simple_denoisers
from bridgejax.evaluation.verdict import Verdict as Verdict

__all__ = [
    "C2ST",
    "FeatureMap",
    "Forecast",
    "KernelDensity",
    "Memorised",
    "Metric",
    "Modes",
    "PredictionReport",
    "Report",
    "SamplerReport",
    "TwoHalves",
    "Verdict",
    "c2st",
    "c2st_accuracy",
    "classifier_features",
    "emergence_levels",
    "evaluate",
    "evaluate_on_manifold",
    "evaluate_predictions",
    "evaluate_sampler",
    "explained_score",
    "identity_features",
    "kernel_density",
    "kick_response",
    "memorised",
    "modes_of",
    "pca_features",
    "simple_denoisers",
    "trajectory_dimension",
    "two_halves",
]


def __dir__() -> list[str]:
    return __all__
