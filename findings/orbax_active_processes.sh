#!/bin/sh
# orbax-checkpoint 0.12.8, jax 0.10.2: in a job of several processes no process saves a checkpoint of its own.
#
# Expected: MultiprocessingOptions(active_processes={i}, primary_host=i, barrier_sync_key_prefix=...) is documented as
#   a checkpointer over a subset of the processes, so each of two processes can save its own state to its own folder (a
#   sweep, a population, a copy on local disk).
# Seen: with orbax.checkpoint.v1, save compares the path with *all* processes of the job before it looks at the subset,
#   and both are refused: "Directory path mismatch in multi-process save". Loading waits for all processes too.
# So: in a job of jax.distributed all processes save and load the same path together; runs of their own belong in
#   processes of their own. Exits non-zero if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "jax==0.10.2" "jaxlib==0.10.2" "orbax-checkpoint==0.12.8" "numpy<3"
cat > "$folder/one.py" <<'PYTHON'
import sys

import jax
import numpy as np

me, address, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, me)
jax.devices()
from orbax.checkpoint import v1 as ocp

context = ocp.Context()
context.multiprocessing.active_processes = {me}
context.multiprocessing.primary_host = me
context.multiprocessing.barrier_sync_key_prefix = f"process {me}"
try:
    with context:
        ocp.save(f"{folder}/process-{me}", {"a": np.arange(3.0)})
    print("SAID saved")
except ValueError as error:
    print("SAID", str(error).split(".")[0])
PYTHON
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import socket
import subprocess
import sys

folder = sys.argv[1]
with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
jobs = [
    subprocess.Popen([sys.executable, f"{folder}/one.py", str(me), address, folder], stdout=subprocess.PIPE, text=True)
    for me in range(2)
]
said = [[line for line in job.communicate(timeout=200)[0].splitlines() if line.startswith("SAID")] for job in jobs]
print(said)
assert said == [["SAID Directory path mismatch in multi-process save"]] * 2
PYTHON
