"""What is asked for is what trainings compute in, and a machine that is slow at it says so."""

import warnings
from collections.abc import Iterator

import pytest
import torch

from sharpminima.runtime.precision import is_bfloat16, passes, set_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _float32_afterwards() -> Iterator[None]:
    yield
    set_precision("float32", CPU)


def test_passes_are_bfloat16_only_where_it_is_asked_for() -> None:
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        set_precision(precision, CPU)
        assert is_bfloat16() == (precision == "bfloat16")
        with passes(CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_a_cpu_without_instructions_for_it_is_a_warning(
    amx: bool, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        set_precision("bfloat16", CPU)
        assert bool(found) == (not amx and not avx512)
    if found:
        assert "will be slow" in str(found[0].message)
