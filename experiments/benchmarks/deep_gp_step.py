"""How long a training step of a deep Gaussian process takes: ours, GPyTorch's deep GP, deepgp-torch; and a chain's.

    step        two layers of width 8 with 128 inducing inputs each, 1,024 rows of 8 columns, one draw of the hidden
                layer, Adam, float32. GPyTorch: its layers and objective, once with one covariance and one set of
                inducing inputs for all outputs of a layer, as ours, and once with one for every output, as its tutorial
                has them; deepgp-torch, which is built on it, as it comes but for float32
    posterior   ours alone: the chains of DDVI and DBVI (10 steps) beside the full Gaussian of DSVI
    memory      what the compiled step needs, at two numbers of rows in all

    python experiments/benchmarks/deep_gp_step.py        all; results/deep_gp_step.json

Claims: GPyTorch takes >= 3 times as long as ours, deepgp-torch >= 2 times; DBVI <= 2 times DSVI. Peers run where they
are installed (pip install gpytorch deepgp-torch).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import study
from harness import Study, Table

import bridgejax as bj
from bridgejax.training import adam

STUDY = Study(
    "deep_gp_step",
    topic="Gaussian processes",
    question="How long does a training step of a deep Gaussian process take, beside GPyTorch and deepgp-torch?",
    answer="GPyTorch and deepgp-torch take about one and a half times as long as ours: at this size most of a step is "
    "nine products of triangular matrices with the rows, which take the same time in both. A chain of ten steps over "
    "the inducing values takes less than the full Gaussian, which has these products to do. Memory does not grow with "
    "the number of rows.",
    brief="Two thirds of GPyTorch's time.",
    budget="10 minutes on two cores",
    floor="baseline against itself",
    missed=(
        (
            {"posterior": "full"},
            "Products of triangular matrices with the rows are most of a step at this size, and JAX and torch do them "
            "at the same speed. What torch loses by running eagerly is small beside them.",
        ),
    ),
    tables=(
        Table(
            rows=("candidate",),
            where={"part": "step"},
            title="Peers over ours",
            text="Median (quartiles) of interleaved rounds.",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table(
            rows=("candidate",),
            where={"part": "posterior"},
            title="Chains over the full Gaussian",
            also=("processor_ratio", "ms", "baseline_ms"),
        ),
        Table("megabytes of a step", rows=("posterior",), columns="rows", title="Memory"),
    ),
)
ROWS, WIDTH, INDUCING, BATCH, RATE = 10_000, 8, 128, 1024, 1e-2


def rows_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth function of eight numbers with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, WIDTH)).astype(np.float32)
    return x, (np.sin(x.sum(1)) + 0.1 * rng.normal(size=n)).astype(np.float32)


# ours ---------------------------------------------------------------------------------------------------------------


def ours(posterior: str, n: int = ROWS) -> tuple[Any, Any, dict[str, Any]]:
    """``(state, step, batch)``."""
    x, y = rows_of(n)
    method = bj.methods.deep_gp(
        x, y, posterior=posterior, width=WIDTH, inducing=INDUCING, optimizer=adam(RATE, schedule="constant")
    )
    step = jax.jit(lambda state, i, batch: method.step(state, jax.random.fold_in(jax.random.key(0), i), batch))
    batch = {"source": jnp.asarray(x[:BATCH]), "target": jnp.asarray(y[:BATCH])}
    return method.init(jax.random.key(0), None), step, batch


def stepping(posterior: str) -> Callable[[], Any]:
    """A call is one step, going on from where the last one ended."""
    state, step, batch = ours(posterior)
    held = [state, 0]

    def run() -> Any:
        held[0], metrics = step(held[0], np.int32(held[1]), batch)
        held[1] += 1
        return metrics["bound"]

    return run


# peers --------------------------------------------------------------------------------------------------------------


def gpytorch_model(*, shared: bool) -> tuple[Any, Any, int]:
    """A deep GP of GPyTorch's layers, float32: model, likelihood, draws."""
    import gpytorch
    import torch
    from gpytorch.models.deep_gps import DeepGP, DeepGPLayer
    from gpytorch.variational import CholeskyVariationalDistribution, VariationalStrategy

    torch.set_default_dtype(torch.float32)

    class Layer(DeepGPLayer):
        def __init__(self, inputs: int, outputs: int | None):
            shape = torch.Size([]) if outputs is None else torch.Size([outputs])
            own = torch.Size([]) if shared else shape
            law = CholeskyVariationalDistribution(INDUCING, batch_shape=shape)
            at = torch.randn(*own, INDUCING, inputs)
            super().__init__(VariationalStrategy(self, at, law, learn_inducing_locations=True), inputs, outputs)
            self.mean = gpytorch.means.ConstantMean() if outputs is None else gpytorch.means.LinearMean(inputs)
            kernel = gpytorch.kernels.RBFKernel(ard_num_dims=inputs, batch_shape=own)
            self.kernel = gpytorch.kernels.ScaleKernel(kernel, batch_shape=own)

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    class Model(DeepGP):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.last = Layer(WIDTH, WIDTH), Layer(WIDTH, None)

        def forward(self, x: Any) -> Any:
            return self.last(self.hidden(x))

    return Model(), gpytorch.likelihoods.GaussianLikelihood(), 1


def deepgp_torch_model() -> tuple[Any, Any, int]:
    """deepgp-torch's own model; importing it makes float64 torch's default, which is undone."""
    import torch
    from deepgp import DeepGP

    torch.set_default_dtype(torch.float32)
    model = DeepGP([WIDTH, WIDTH], num_inducing=INDUCING)
    return model, model.likelihood, 1


def torch_stepping(model: Any, likelihood: Any, draws: int) -> Callable[[], Any]:
    """One step of Adam on the variational bound."""
    import gpytorch
    import torch
    from gpytorch.mlls import DeepApproximateMLL, VariationalELBO

    x, y = (torch.from_numpy(part[:BATCH]) for part in rows_of(ROWS))
    bound = DeepApproximateMLL(VariationalELBO(likelihood, model, num_data=ROWS))
    parameters = {id(p): p for module in (model, likelihood) for p in module.parameters()}
    optimizer = torch.optim.Adam(list(parameters.values()), lr=RATE)
    model.train()

    def run() -> None:
        with gpytorch.settings.num_likelihood_samples(draws):
            optimizer.zero_grad()
            loss = -bound(model(x), y)
            loss.backward()
            optimizer.step()
            float(loss.detach())

    return run


def step(options: argparse.Namespace) -> list[study.Record]:
    """Ours beside the peers that are installed."""
    candidates: dict[str, Callable[[], Any]] = {}
    if importlib.util.find_spec("gpytorch") is None:
        print("step: left out, for gpytorch is not installed")
        return []
    candidates["GPyTorch, one covariance a layer"] = torch_stepping(*gpytorch_model(shared=True))
    candidates["GPyTorch, one an output"] = torch_stepping(*gpytorch_model(shared=False))
    bars = dict.fromkeys(candidates, 3.0)
    if importlib.util.find_spec("deepgp") is not None:
        candidates["deepgp-torch"] = torch_stepping(*deepgp_torch_model())
        bars["deepgp-torch"] = 2.0
    rows = harness.compare(stepping("full"), candidates, pairs=harness.rounds(options), at_least=0.1)
    return harness.record({"posterior": "full"}, rows, at_least=bars)


def posterior(options: argparse.Namespace) -> list[study.Record]:
    """Chains beside the Gaussian."""
    chains = {"DDVI": stepping("ddvi"), "DBVI": stepping("dbvi")}
    rows = harness.compare(stepping("full"), chains, pairs=harness.rounds(options), at_least=0.1)
    return harness.record({"baseline": "DSVI"}, rows, at_most={"DBVI": 2.0})


def memory(options: argparse.Namespace) -> Iterator[study.Record]:
    """Of the compiled program: arguments, results and what it keeps between."""
    sizes = (2_000, 4_000) if options.smoke else (10_000, 1_000_000)
    for name in ("full", "dbvi"):
        found = []
        for n in sizes:
            state, run, batch = ours(name, n)
            needs = run.lower(state, np.int32(0), batch).compile().memory_analysis()
            total = needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes
            found.append(total / 2**20)
            same = {"bar": "as at the fewest rows", "met": found[-1] == found[0]}
            yield study.record("megabytes of a step", found[-1], {"posterior": name, "rows": n}, **same)


if __name__ == "__main__":
    parts = {"step": step, "posterior": posterior, "memory": memory}
    STUDY.run(__doc__, parts, harness.options, environment=harness.environment)
