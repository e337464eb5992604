#!/bin/sh
# diffusers 0.42.1: UniPCMultistepScheduler(solver_type="bh1"), all else as it comes, ends in nan.
#
# Expected: "bh1", one of its two documented solver types (recommended for unconditional sampling at few steps), returns
#   samples, as "bh2" does.
# Seen: every sample is nan at the last step, for any number of steps; no error and no warning.
# Cause: the last step goes to sigma = 0 (final_sigmas_type="zero" is the default), where h is infinite; with "bh1" B(h) =
#   h multiplies a correction that is 0 at the first order of that step.
# So: final_sigmas_type="sigma_min" with "bh1". Exits non-zero if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "diffusers==0.42.1" "torch==2.13.0" "numpy<3"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from diffusers import UniPCMultistepScheduler


def samples(**options):
    scheduler = UniPCMultistepScheduler(prediction_type="sample", **options)
    scheduler.set_timesteps(10)
    x = torch.randn(4, 1, generator=torch.Generator().manual_seed(0))
    for sigma, t in zip(scheduler.sigmas, scheduler.timesteps):
        x = scheduler.step(x / (1 + sigma**2) ** 0.5, t, x).prev_sample  # the denoiser of a standard normal
    return x.flatten()


found = {name: samples(solver_type=name) for name in ("bh1", "bh2")}
found["bh1 to sigma_min"] = samples(solver_type="bh1", final_sigmas_type="sigma_min")
for name, x in found.items():
    print(name, x.tolist())
assert found["bh1"].isnan().all(), "bh1 has changed"
assert found["bh2"].isfinite().all() and found["bh1 to sigma_min"].isfinite().all(), "the others have changed"
PYTHON
