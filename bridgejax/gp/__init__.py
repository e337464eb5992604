"""Gaussian processes: covariances, sparse layers, likelihoods and exact evidence. The deep ones are learnt by
``methods.deep_gp``.
"""

from bridgejax.gp.covariances import Covariance as Covariance
from bridgejax.gp.covariances import add as add
from bridgejax.gp.covariances import gram as gram
from bridgejax.gp.covariances import matern32 as matern32
from bridgejax.gp.covariances import matern52 as matern52
from bridgejax.gp.covariances import multiply as multiply
from bridgejax.gp.covariances import rbf as rbf
from bridgejax.gp.inducing import Root as Root
from bridgejax.gp.inducing import collapsed_bound as collapsed_bound
from bridgejax.gp.inducing import log_marginal as log_marginal
from bridgejax.gp.inducing import root as root
from bridgejax.gp.likelihoods import Likelihood as Likelihood
from bridgejax.gp.likelihoods import bernoulli as bernoulli
from bridgejax.gp.likelihoods import gaussian as gaussian
from bridgejax.gp.likelihoods import softmax as softmax
from bridgejax.gp.likelihoods import student_t as student_t

__all__ = [
    "Covariance",
    "Likelihood",
    "Root",
    "add",
    "bernoulli",
    "collapsed_bound",
    "gaussian",
    "gram",
    "log_marginal",
    "matern32",
    "matern52",
    "multiply",
    "rbf",
    "root",
    "softmax",
    "student_t",
]


def __dir__() -> list[str]:
    return __all__
