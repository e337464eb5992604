#!/bin/sh
# jax 0.10.2: jnp.asarray of a NumPy array compiles a program for every shape.
#
# Expected: moving an array from the host to a device is a copy, of any shape, as jax.device_put is.
# Seen: jnp.asarray(x) and jnp.array(x) of a NumPy array compile and run a program named "stage", once per shape and
#   dtype. With dtype= the same call compiles nothing, and so does jax.device_put(x). What comes out is the same.
#   For 200 shapes the first calls take more than five times as long as device_put takes (tens of times when tried).
# So: code that brings many arrays of different shapes to a device once (the leaves of a checkpoint, ragged data, tests)
#   spends its time in the compiler; say the dtype, or use jax.device_put. Exits non-zero if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "jax==0.10.2" "jaxlib==0.10.2" "numpy<3"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import logging
import time

import jax
import jax.numpy as jnp
import numpy as np

compiled = []


class Names(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith("Compiling"):
            compiled.append(record.getMessage().split()[1])


def programs(move, first):
    """Names of what is compiled for three shapes that nothing had before, and again for the same."""
    found = []
    for _ in range(2):
        compiled.clear()
        moved = [move(np.arange(n, dtype=np.float32)) for n in range(first, first + 3)]
        found.append(list(compiled))
    assert all(np.array_equal(x, np.arange(len(x))) for x in moved)
    return found


logging.getLogger("jax").addHandler(Names())
logging.getLogger("jax").propagate = False
jnp.zeros(1).block_until_ready()
with jax.log_compiles():
    first, again = programs(jnp.asarray, 10)
    print("jnp.asarray(x):", first, "then", again)
    assert first == ["jit(stage)"] * 3
    assert again == []
    assert programs(jnp.array, 20)[0] == ["jit(stage)"] * 3
    assert programs(lambda x: jnp.asarray(x, jnp.float32), 30)[0] == []
    assert programs(jax.device_put, 40)[0] == []
    print("jnp.asarray(x, jnp.float32) and jax.device_put(x): nothing")


def seconds(move, first):
    began = time.process_time()
    for n in range(first, first + 200):
        move(np.zeros(n, np.float32)).block_until_ready()
    return time.process_time() - began


ratio = seconds(jnp.asarray, 1000) / seconds(jax.device_put, 2000)
print(f"200 shapes: asarray takes {ratio:.0f} times as long as device_put")
assert ratio > 5
PYTHON
