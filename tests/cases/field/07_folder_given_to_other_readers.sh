#!/bin/bash
# The output folder given to pandas, Hugging Face datasets and polars.
# Not asked for: load_dataset("parquet", data_dir=...) and polars.read_parquet("latents/") take every file below
# a folder, and _run/, which holds JSON, is part of the contract.
source "$(dirname "$0")/../lib.sh"

python -c 'import datasets, pandas, polars' 2> out.txt || skip "$(tail -1 out.txt)"
cp "$A" a.jpg && tar -cf 000000.tar a.jpg
succeeds restyle invert 000000.tar --out latents $RUN
export HF_HUB_OFFLINE=1 HF_HOME=$WORK/hf HF_DATASETS_DISABLE_PROGRESS_BARS=1
cat > read.py <<'P'
import pandas
import polars
from datasets import load_dataset

assert len(pandas.read_parquet("latents/")) == 1
assert load_dataset("latents/", split="train").num_rows == 1
assert polars.read_parquet("latents/*.parquet").height == 1
P
succeeds python read.py
exit $failed
