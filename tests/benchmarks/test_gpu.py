"""`python -m benchmarks.gpu` rehearsed on a CPU: every part that needs no GPU, and what fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import parity
from benchmarks.gpu.kernels import Kernel

ROOT = Path(__file__).parent.parent.parent
ABSENT = ["ray", "dlib", "webdataset", "braceexpand", "pyarrow", "click", "PIL", "tqdm", "jinja2"]
TINY = "--device cpu --small --precisions fp32 --batches 1 --sweep 2 --steps 1".split()


def read(folder):
    return json.loads((folder / "gpu_cpu_small.json").read_text())


def speeds(part):
    return [
        speed
        for row in part["rows"]
        for kind in row["images_per_s"].values()
        for speed in kind.values()
    ]


@pytest.fixture
def run(tmp_path):
    """The command within this process; its exit status."""
    return lambda *arguments: command.main([*TINY, "--out", str(tmp_path), *arguments])


@pytest.mark.slow
def test_a_bare_machine_measures_every_part(tmp_path):
    arguments = [*TINY, "--out", str(tmp_path), "--commit", "abc"]
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT})); "
        f"sys.argv[1:] = {arguments}; runpy.run_module('benchmarks.gpu', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read(tmp_path)
    assert (found["card"], found["commit"], found["settings"]["steps"]) == ("cpu", "abc", 1)
    parts = found["parts"]
    assert list(parts) == list(command.PARTS)
    assert {name for name in parts if "skipped" in parts[name]} == {"compile", "compiled", "graph"}
    for name in ("eager", "reference", "sweep"):
        assert min(speeds(parts[name])) > 0
        assert all(row["latents_off"] < 1e-5 and row["finite"] for row in parts[name]["rows"])
    stages = {(row["stage"], row["way"]): row for row in parts["stages"]["rows"]}
    assert stages["generator", "eager"]["kernels_ms"]["convolution"] > 0
    assert stages["encoder", "floor"]["gflop"] > stages["generator", "floor"]["gflop"] > 0
    held = [row["holds"] for row in parts["parity"]["rows"] if "holds" in row]
    assert held == [True, True]
    assert len(parts["metrics"]["rows"]) == 5
    lines = done.stdout.splitlines()
    assert all(len(line) <= 110 or line.startswith(str(tmp_path)) for line in lines)
    assert any(line.startswith("images/s, 1 steps") for line in lines)


def test_what_fails_ends_nothing_else_and_is_measured_again(run, tmp_path, monkeypatch, capsys):
    def broken(bench):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setitem(command.PARTS, "ceilings", broken)
        assert run("--only", "ceilings", "--only", "eager") == 1
    parts = read(tmp_path)["parts"]
    assert "illegal memory access" in parts["ceilings"]["failed"]
    kept = speeds(parts["eager"])
    assert kept
    capsys.readouterr()

    run("--missing")
    missing = capsys.readouterr().out.split()
    assert missing == [name for name in command.PARTS if name != "eager"]

    baseline = ("--baseline", str(tmp_path / "gpu_cpu_small.json"))
    assert run("--only", "ceilings", *baseline) == 0
    parts = read(tmp_path)["parts"]
    assert "failed" not in parts["ceilings"]
    assert speeds(parts["eager"]) == kept, "of the same code and settings"
    assert "= 1.000" in capsys.readouterr().out

    assert run("--only", "ceilings", "--steps", "2") == 0
    assert list(read(tmp_path)["parts"]) == ["ceilings"], "of other settings"


def test_a_row_that_fails_leaves_the_others(run, tmp_path):
    assert run("--only", "eager", "--precisions", "fp32,fp7") == 1
    good, bad = read(tmp_path)["parts"]["eager"]["rows"]
    assert "precision must be one of" in bad["failed"]
    assert good["images_per_s"]


def test_numbers_that_are_wrong_are_a_failure(run, monkeypatch, capsys):
    monkeypatch.setattr(parity, "ALONE_ATOL", -1.0)
    assert run("--only", "parity") == 1
    assert capsys.readouterr().out.count("DOES NOT HOLD") == 1


def test_without_time_all_is_skipped_and_said(run, tmp_path, capsys):
    assert run("--budget", "0") == 0
    parts = read(tmp_path)["parts"]
    assert len(parts) == len(command.PARTS)
    assert all("skipped" in part and not part["rows"] for part in parts.values())
    assert "sweep skipped: 0 s are left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128", "convolution"),
        ("nvjet_sm90_tst_128x64_64x8_1x2_h_bz_TNT", "convolution"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float>", "layout"),
        ("triton_poi_fused_add_convolution_leaky_relu_mul_3", "pointwise"),
        ("void cudnn::bn_fw_inf_1C11_kernel_NCHW<float, float>", "pointwise"),
        ("void at::native::elementwise_kernel<128, 4, direct_copy_kernel_cuda>", "layout"),
        ("void at::native::vectorized_elementwise_kernel<4, MulFunctor<float>>", "pointwise"),
        ("Memcpy HtoD (Pinned -> Device)", "layout"),
        ("void (anonymous namespace)::something_else", "other"),
    ],
)  # fmt: skip
def test_kernels_of_a_gpu_are_told_by_their_names(name, group):
    assert Kernel(name, 1.0, 1).group == group
