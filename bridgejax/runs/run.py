"""A trained model in the units of its data.

    data = scale model + shift                              coordinate by coordinate, ``Units``
    log p(data) = log p(model) - sum over coordinates of log scale

Of a run on a manifold the data are rows of a table (latitude and longitude, angles, quaternions) and the model's units
are points of the manifold; its densities are with respect to the volume of the manifold in either.

A network learns data of mean 0 and deviation 1, so its process, and every function of a bare Process (``log_prob``,
``guidance.inpaint``, a backward ``sample``), has its states in those *model units*; only ``process.decode`` takes
samples back. The methods of a ``Run`` take and give the data's units, and with ``units="model"`` the process's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from bridgejax._numerics import on_device
from bridgejax._summary import summary
from bridgejax._types import Args, Decoder, Json, Mask, MethodState, Numbers, Params, State
from bridgejax.bridges import guidance
from bridgejax.data.supervised import Inputs
from bridgejax.evaluation.predictive import Forecast
from bridgejax.processes import SDE, Process
from bridgejax.processes.sde import check_callable
from bridgejax.runs.predictions import predicted
from bridgejax.runs.units import UNITS, Units
from bridgejax.solve import sample as draw
from bridgejax.weigh import LogProb, log_prob


def indices(labels: Numbers, classes: tuple[str, ...], num: int) -> np.ndarray:
    """Labels by name as indices into the classes, int32 (num,).

    Args:
        labels: the data's own labels, numbers or text: one for all, or one for each of ``num`` samples.
        classes: the names there are.
        num: how many samples.

    Raises:
        ValueError: an unknown label, or another number of them.
    """
    given = np.asarray(labels)
    names = [str(label) for label in np.broadcast_to(given, (num,) if given.ndim == 0 else given.shape)]
    unknown = next((name for name in names if name not in classes), None)
    if unknown is not None:
        known = f"labels {_listed(classes)}" if classes else "no labels"
        raise ValueError(f"label {unknown!r} is unknown: this run has {known}")
    if len(names) != num:
        raise ValueError(f"labels must be one, or one for each of {num} keys, got {len(names)}")
    return np.asarray([classes.index(name) for name in names], np.int32)


def _identity(key: Array, x: State, args: Args) -> State:
    return x


def _seen_in_data(operator: Callable[[State], Array] | Array, shift: Array, scale: Array, z: Array) -> Array:
    """An operator on data, of the model's state."""
    x = z * scale + shift
    return operator(x) if callable(operator) else jnp.asarray(operator) @ jnp.ravel(x)


def _known_in_model(value: Callable[[Args], State], shift: Array, scale: Array, args: Args) -> State:
    return (value(args) - shift) / scale


class Run(NamedTuple):
    """A trained model, in its data's units.

    ``process`` is the bare model: whoever calls ``bridgejax.log_prob(run.process, ...)`` or bends
    ``run.process.dynamics`` does so in the model's units. The methods below do it in the data's; all take many samples,
    one key each.

    Attributes:
        process: ready to sample, reverse, condition: its states in the model's units, its samples in the data's.
        state: the training state.
        config: what was trained: a dictionary, empty for a method of the caller's own.
        units: between the data's units and the model's; the same for a method of the caller's own, who scaled the data.
        classes: names of the labels, in the order of the indices that ``process`` takes as ``args``.
        begins: what the process begins with: "noise", "rows" of a source, or "pairs", rows that the process is told
            too, as their targets belong to them; "inputs": noise, told the inputs that a target belongs to.
        variance: of the data in the model's units, over all coordinates.
        last: ``last(key, x, args)``, the last state as a sample in the model's units.
        params: what was learnt, ``method.params(state)``.
        inputs: of a run of a table with a target, what its columns become as inputs; None elsewhere.
        predictor: what predicts its target, see ``predict``; None elsewhere.

    Example:
        >>> import jax, jax.numpy as jnp, bridgejax as bj
        >>> schedule, data = bj.schedules.vp(), bj.mixtures.gaussian_mixture([[-2.0], [2.0]], 0.1)
        >>> sde = bj.reverse(schedule, denoiser=bj.mixtures.mixture_denoiser(data, schedule))
        >>> process = bj.Process(bj.starts.normal((1,)), sde, bj.grids.uniform(20))
        >>> run = bj.Run(process, state=None, config={})
        >>> run.sample(bj.keys(jax.random.key(0), 5)).shape
        (5, 1)
    """

    process: Process
    state: MethodState
    config: Json
    units: Units = Units()
    classes: tuple[str, ...] = ()
    begins: str = "noise"
    variance: float = 1.0
    last: Decoder = _identity
    params: Params = None
    inputs: Inputs | None = None
    predictor: Callable[..., Any] | None = None

    __repr__ = summary

    # units ----------------------------------------------------------------------------------------------------------

    def to_model(self, x: Numbers) -> Array:
        """Samples (n, *shape) in the data's units as states of ``process``."""
        return self.units.to_model(x)

    def to_data(self, z: Numbers) -> np.ndarray:
        """States of ``process`` in the data's units, (n, *shape): float64 for vectors, float32 for images."""
        return self.units.to_data(z)

    def _given(self, x: Numbers | None, units: str) -> Any:
        if units not in UNITS:
            raise ValueError(f"units must be one of {UNITS}, got {units!r}")
        if x is None or units == "model":
            return x
        return self.to_model(x) if self.inputs is None else self.inputs.encode(x)

    # what it does ---------------------------------------------------------------------------------------------------

    def sample(
        self,
        keys: Array,
        label: Numbers | None = None,
        *,
        x: Numbers | None = None,
        units: str = "data",
        **options: Any,
    ) -> np.ndarray | Array:
        """Samples, one per key: ``bridgejax.sample`` of the process, with labels by name, in the data's units.

        Args:
            keys: array of keys, ``bridgejax.keys(key, num)``.
            label: one label for all, or one each; None: without a condition.
            x: where to begin, one row a key, instead of the process's own start law: of a run from a source its rows,
                in the data's units; of a run from noise what ``encode`` gives, which has no units. A run of paired data
                needs it; of a table with a target they are rows of its input columns.
            units: "data" or "model", of x and of what is returned.
            **options: of ``bridgejax.sample``: t, ts, solver, micro_batch, mesh.

        Returns:
            A NumPy array as ``to_data`` makes it, or a JAX array in the model's units.

        Raises:
            ValueError: an unknown label or unit, x missing, and what ``bridgejax.sample`` raises.
        """
        process = dataclasses.replace(self.process, decode=self.last)
        start = self._given(x, "model" if self.begins == "noise" and units == "data" else units)
        told = self._args(label, start, len(keys))
        found = draw(process, keys, told, x=None if self.begins == "inputs" else start, **options)
        return found if units == "model" else self.to_data(found)

    def encode(
        self, keys: Array, x: Numbers, label: Numbers | None = None, *, units: str = "data", **options: Any
    ) -> np.ndarray | Array:
        """The process run backward from data: to noise, or to the source's rows.

        Args:
            keys: array of keys, one per sample.
            x: (n, *shape), data.
            label: their labels, as for ``sample``.
            units: "data" or "model", of x and of source rows; noise has no units and is the process's own.
            **options: of ``bridgejax.sample``.

        Raises:
            ValueError: a process without ``backward``, and what ``sample`` raises.
        """
        z = self._given(x, units)
        found = draw(self.process, keys, self._args(label, z, len(keys)), x=z, direction="backward", **options)
        return found if self.begins == "noise" or units == "model" else self.to_data(found)

    def predict(self, key: Array, rows: Numbers, target: Numbers | None = None, **options: Any) -> Forecast:
        """What a run of a table with a target says of rows, in the data's units.

        Args:
            key: one key.
            rows: (n, columns) of ``inputs.names``, categories by their names or indices.
            target: of these rows: its log density is returned too; classes by name.
            **options: draws (128) and quantiles, levels in (0, 1).

        Raises:
            ValueError: another run, columns or categories that were not learnt, what ``methods.predict`` raises.
        """
        return predicted(self, key, rows, target, **options)

    def log_prob(
        self, keys: Array, x: Numbers, label: Numbers | None = None, *, units: str = "data", **options: Any
    ) -> LogProb:
        """log p(x) of each row, as a density in the data's units: log p(model) - sum of log scale, in nats.

        On a manifold it is the density with respect to the volume: area of the unit sphere, radians, 8 pi^2 of SO(3).

        Args:
            keys: array of keys, one per sample (used by Hutchinson's estimate and by a bound only).
            x: (n, *shape), data.
            label: their labels, as for ``sample``.
            units: "data" or "model", of x and of the density.
            **options: of ``bridgejax.log_prob``: kind, divergence, solver, controller, ts, samples, t_min.

        Returns:
            A ``LogProb`` with values (n,).

        Raises:
            ValueError: data that are encoded, whose map has no Jacobian, and what ``bridgejax.log_prob`` raises.
        """
        if self.units.encoding is not None:
            raise ValueError("log_prob needs a density, and columns of whole numbers or categories have none")
        z = jnp.asarray(self._given(x, units))
        one = partial(log_prob, self.process, **options)
        found = jax.vmap(one)(keys, z, self._args(label, z, len(keys)))
        if units == "model":
            return found
        volume = np.sum(
            np.broadcast_to(np.log(np.asarray(self.units.scale, np.float64)), self.units.shape or z.shape[1:])
        )
        return dataclasses.replace(found, value=found.value - volume)

    def _args(self, label: Numbers | None, rows: Numbers | None, num: int) -> Args:
        if self.begins not in ("pairs", "inputs"):
            return None if label is None else on_device(indices(label, self.classes, num))
        if label is not None or rows is None:
            raise ValueError("this run learnt each row's own target: give rows x to begin with, and no label")
        return on_device(rows)

    # conditioned on what is known -----------------------------------------------------------------------------------

    def _check_vectors(self, what: str) -> None:
        if self.units.coordinates is not None:
            raise ValueError(
                f"{what} knows coordinates of vectors, and this run has points on a manifold: bend its SDE, "
                "run.process.dynamics, with bridgejax.guide or bridgejax.control"
            )

    def _bent(self, sde: SDE) -> Run:
        return self._replace(process=dataclasses.replace(self.process, dynamics=sde, backward=None))

    def _variance(self, data_variance: float | None, units: str) -> float:
        if data_variance is None:
            return self.variance
        return data_variance if units == "model" else data_variance / self.units.one_scale("data_variance") ** 2

    def _noise(self, noise: float, units: str) -> float:
        return noise if units == "model" or noise == 0.0 else noise / self.units.one_scale("noise")

    def inpaint(
        self, mask: Mask, value: Numbers, *, noise: float = 0.0, data_variance: float | None = None, units: str = "data"
    ) -> Run:
        """The run given the coordinates of one sample where ``mask`` is True, approximately: ``guidance.inpaint``.

        Args:
            mask: booleans shaped like one sample.
            value: what is known, shaped like it.
            noise: standard deviation of what is known; 0: samples have those values exactly.
            data_variance: of the data, over all coordinates; None: this run's own.
            units: "data" or "model", of value, noise and data_variance.

        Raises:
            ValueError: noise or a variance in the data's units where columns have scales of their own, and what
                ``guidance.inpaint`` raises.
        """
        self._check_vectors("inpaint")
        known = self._given(jnp.asarray(value)[None] if units == "model" else np.asarray(value)[None], units)[0]
        noise, variance = self._noise(noise, units), self._variance(data_variance, units)
        return self._bent(guidance.inpaint(self.process.dynamics, mask, known, noise=noise, data_variance=variance))

    def hold(self, mask: Mask, value: State, *, units: str = "data") -> Run:
        """The run with known coordinates held at every step: ``guidance.hold``.

        Args:
            mask: booleans shaped like one sample, True where coordinates are known.
            value: shaped like it, or ``value(args)``: each sample's own.
            units: "data" or "model", of value.

        Raises:
            ValueError: what ``guidance.hold`` raises.
        """
        self._check_vectors("hold")
        if units == "data" and callable(value):
            if self.units.encoding is not None:
                raise ValueError("value must be an array: data of this run are encoded on the host")
            value = check_callable(value, "value", "value(args)")
            value = Partial(_known_in_model, value, *self._float32())
        elif not callable(value):
            value = self._given(np.asarray(value)[None], units)[0]
        return self._bent(guidance.hold(self.process.dynamics, mask, value))

    def posterior(
        self, operator: Any, value: Numbers, noise: float, *, data_variance: float | None = None, units: str = "data",
        **options: Any,
    ) -> Run:  # fmt: skip
        """The run given y = A x + noise eps, approximately: ``guidance.posterior`` with A a function of data.

        Args:
            operator: A, a matrix (m, d) on the flattened sample or a differentiable function of one sample.
            value: y, of m numbers.
            noise: standard deviation of the measurement, > 0, in the units of y.
            data_variance: of the data, over all coordinates; None: this run's own.
            units: "data" or "model", of the sample that A sees, and of data_variance.
            **options: of ``guidance.posterior``: method, scale.

        Raises:
            ValueError: what ``guidance.posterior`` raises.
        """
        self._check_vectors("posterior")
        if units == "data" and self.units.encoding is not None:
            raise ValueError("operator must see numbers, and data of this run are encoded: give it with units='model'")
        seen = operator
        if units == "data":
            operator = (
                check_callable(operator, "operator", "operator(x)") if callable(operator) else jnp.asarray(operator)
            )
            seen = Partial(_seen_in_data, operator, *self._float32())
        variance = self._variance(data_variance, units)
        return self._bent(
            guidance.posterior(self.process.dynamics, seen, value, noise, data_variance=variance, **options)
        )

    def _float32(self) -> tuple[Array, Array]:
        return jnp.asarray(self.units.shift, jnp.float32), jnp.asarray(self.units.scale, jnp.float32)


def _listed(names: tuple[str, ...], most: int = 20) -> str:
    """The names, or the first and the last of many."""
    return ", ".join(names if len(names) <= most else (*names[: most - 1], f"... {names[-1]} ({len(names)} in all)"))
