import pytest
import torch

from generators.precision import HAS_NEWER, dtype_of, float32_products

backends = torch.backends
needs_newer = pytest.mark.skipif(not HAS_NEWER, reason="torch before 2.9 has one set of switches")


def switches() -> tuple:
    return (
        torch.get_float32_matmul_precision(),
        backends.cudnn.allow_tf32,
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
        backends.mkldnn.conv.fp32_precision,
    )


@pytest.fixture
def torch_as_found():
    yield
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = True
    for backend in (backends.mkldnn.matmul, backends.mkldnn.conv, backends.cuda.matmul):
        backend.fp32_precision = "none"


@needs_newer
def test_float32_is_ieee_within_and_torch_is_as_before_after_it(torch_as_found):
    torch.set_float32_matmul_precision("high")
    before = switches()
    for precision in ("fp32", "bf16", "fp16"):
        with float32_products(precision):
            assert backends.cuda.matmul.fp32_precision == "ieee"
            assert backends.cudnn.conv.fp32_precision == "ieee"
            assert not backends.cuda.matmul.allow_tf32
            assert not backends.cudnn.allow_tf32
        assert switches() == before
    with float32_products("tf32"):
        assert backends.cuda.matmul.allow_tf32
        assert backends.cudnn.allow_tf32
        assert backends.mkldnn.conv.fp32_precision == "ieee"
    assert switches() == before


@needs_newer
def test_switches_are_restored_after_an_exception(torch_as_found):
    before = switches()
    with pytest.raises(ZeroDivisionError), float32_products("tf32"):
        raise ZeroDivisionError
    assert switches() == before


@needs_newer
def test_a_program_that_mixes_torchs_two_sets_of_switches_finds_its_own_again(torch_as_found):
    torch.set_float32_matmul_precision("high")
    backends.cuda.matmul.fp32_precision = "ieee"
    with pytest.raises(RuntimeError, match="mix"):
        backends.cuda.matmul.allow_tf32  # noqa: B018
    with float32_products("tf32"):
        assert backends.cuda.matmul.allow_tf32
    assert backends.cuda.matmul.fp32_precision == "ieee"
    assert backends.mkldnn.matmul.fp32_precision == "tf32"


def test_an_unknown_precision_says_which_there_are():
    with pytest.raises(ValueError, match=r"fp32, tf32, bf16, fp16, not 'fp8'"):
        dtype_of("fp8")


def test_the_older_switches_are_set_and_restored_whatever_torch_has():
    before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    with float32_products("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not backends.cudnn.allow_tf32
    assert (torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32) == before
