#!/bin/sh
# datasets 5.2.0: with_format("numpy") returns columns of float64 as float32.
#
# Expected: numbers in the type of the column, which features says is float64: time stamps a second
#   apart stay apart.
# Seen: dtype float32, without a warning; 1,700,000,000.25 and 1,700,000,001.25 both come as 1,700,000,000.0, a column of
#   four times has one distinct value. int64 stays int64.
# Cause: the formatter's default dtype for floating numbers is float32, whatever the column holds. Known since 2023 and
#   open (huggingface/datasets issue 5517).
# So: with_format("numpy", dtype=None) gives the types of the columns. Exits non-zero if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "datasets==5.2.0" "numpy<3"
HF_HOME="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import datasets
import numpy as np

times = 1_700_000_000.25 + np.arange(4.0)
rows = datasets.Dataset.from_dict({"time": times, "id": [2**53 + 1] * 4})
assert rows.features["time"].dtype == "float64"
as_numpy = rows.with_format("numpy")[:]
stored = rows.with_format("numpy", dtype=None)[:]
print("column:", rows.features["time"].dtype, " numpy format:", as_numpy["time"].dtype, as_numpy["time"].tolist())
print("dtype=None:", stored["time"].dtype, stored["time"].tolist())
assert as_numpy["time"].dtype == np.float32 and len(set(as_numpy["time"].tolist())) == 1, "the format has changed"
assert as_numpy["id"].dtype == np.int64 and int(as_numpy["id"][0]) == 2**53 + 1
assert np.array_equal(stored["time"], times) and stored["id"].dtype == np.int64, "dtype=None has changed"
PYTHON
