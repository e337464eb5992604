#!/bin/sh
# diffusers 0.42.1, DPMSolverMultistepScheduler(solver_order=3), and k-diffusion 0.1.1.post1, sample_dpmpp_3m_sde with
# eta=0: the third-order multistep DPM-Solver++ converges at order 2.
#
# Expected: on the probability flow of a standard normal, x(sigma) = x(sigma_0) sqrt((1 + sigma^2)/(1 + sigma_0^2)), the
#   error falls eightfold when the steps are doubled.
# Seen, 20, 40, 80, 160 even steps in log sigma from 10 to 0.05: diffusers 1.3e-3, 2.9e-4, 7.1e-5, 1.8e-5; k-diffusion
#   1.3e-3, 3.0e-4, 7.2e-5, 1.8e-5: fourfold. (Order 2 of both: 4.0e-3, 1.0e-3, 2.6e-4, 6.5e-5.)
# Cause: in x_u = r x + a (phi_1 D0 + phi_2 D1 - phi_3 D2), with phi_3 = phi_2/h - 1/2, D2 is the second divided
#   difference times h^2, which is h^2 D''/2. The Taylor weight phi_3 belongs to h^2 D'': half of the term is missing.
# So: with weights that integrate the quadratic exactly (2 phi_3) the order is 3. Exits non-zero if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "diffusers==0.42.1" "torch==2.13.0" "torchsde==0.2.6" "torchdiffeq==0.2.5" "scipy==1.17.1" "tqdm"
"$folder/venv/bin/pip" install -q --no-deps "k-diffusion==0.1.1.post1"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib
import importlib.util
import math
import sys
import types

import torch
from diffusers import DPMSolverMultistepScheduler

# sampling.py alone: the package's __init__ imports training code that asks for many more packages
package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
package.utils = utils
sys.modules.update({"k_diffusion": package, "k_diffusion.utils": utils})
sampling = importlib.import_module("k_diffusion.sampling")

EXACT = math.sqrt((1 + 0.05**2) / (1 + 10.0**2))


def levels(steps):
    return torch.linspace(math.log(10.0), math.log(0.05), steps + 1, dtype=torch.float64).exp()


def k_diffusion(steps):
    y = sampling.sample_dpmpp_3m_sde(
        lambda y, sigma: y / (1 + sigma[:, None] ** 2),
        torch.ones(1, 1, dtype=torch.float64),
        levels(steps),
        disable=True,
        eta=0.0,
        noise_sampler=lambda sigma, following: 0.0,
    )
    return abs(float(y) / EXACT - 1)


def diffusers(steps, order):
    scheduler = DPMSolverMultistepScheduler(
        solver_order=order, prediction_type="sample", final_sigmas_type="sigma_min"
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = sigmas = levels(steps)
    scheduler.set_begin_index(0)
    x = torch.ones(1, 1, dtype=torch.float64) / (1 + sigmas[0] ** 2) ** 0.5
    for sigma, t in zip(sigmas, scheduler.timesteps):
        x = scheduler.step(x / (1 + sigma**2) ** 0.5, t, x).prev_sample  # D = y / (1 + sigma^2), x = y / sqrt(same)
    return abs(float(x * (1 + sigmas[-1] ** 2) ** 0.5) / EXACT - 1)


def order_of(errors):
    return math.log2(errors[0] / errors[-1]) / (len(errors) - 1)


counts = (20, 40, 80)
found = {
    "diffusers, solver_order=2": [diffusers(n, 2) for n in counts],
    "diffusers, solver_order=3": [diffusers(n, 3) for n in counts],
    "k-diffusion, sample_dpmpp_3m_sde": [k_diffusion(n) for n in counts],
}
for name, errors in found.items():
    print(f"{name}: errors {', '.join(f'{e:.2g}' for e in errors)}, order {order_of(errors):.2f}")
assert all(1.8 < order_of(errors) < 2.3 for errors in found.values()), "an order has changed"
PYTHON
