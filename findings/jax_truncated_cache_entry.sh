#!/bin/sh
# jax 0.10.2: an entry of the persistent compilation cache that was cut short is never replaced.
#
# Expected: a process that is killed, or a disk that fills, while JAX writes an entry costs one compilation: the next
#   process finds the entry unreadable, compiles, and writes it again.
# Seen: every later process warns ("Error reading persistent compilation cache entry ... incomplete or truncated
#   stream"), compiles, and leaves the entry as it was: writing returns early where a file of that name exists. The
#   counter of cache misses goes up each time, so that a dashboard shows a cache that never warms.
# So: entries are not written to a temporary name and moved; whoever kills jobs (preemption) should remove what is newer
#   than the start of the killed job. Exits non-zero if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "jax==0.10.2" "jaxlib==0.10.2" "numpy<3"
cat > "$folder/once.py" <<'PYTHON'
import warnings

import jax
import jax.monitoring
import jax.numpy as jnp

counted = []
jax.monitoring.register_event_listener(lambda name, **more: counted.append(name.rsplit("/", 1)[-1]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))).block_until_ready()
unreadable = sum("truncated" in str(one.message) for one in caught)
print(unreadable, counted.count("cache_hits"), counted.count("cache_misses"))
PYTHON
JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR="$folder/cache" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import pathlib
import subprocess
import sys

folder = pathlib.Path(sys.argv[1])


def once():
    done = subprocess.run([sys.executable, folder / "once.py"], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


cold, warm = once(), once()
(entry,) = (file for file in (folder / "cache").iterdir() if "lambda" in file.name and file.name.endswith("-cache"))
whole = entry.read_bytes()
entry.write_bytes(whole[: len(whole) // 2])
after = [once() for _ in range(3)]
print("unreadable entries, hits, misses:  cold", cold, " warm", warm, " after the entry was cut, three times", after)
assert cold[1] == 0 and warm[2] == 0
assert all(now[0] == 1 and now[2] == 1 for now in after)
assert entry.stat().st_size == len(whole) // 2
print("the entry is still half of what it was")
PYTHON
