"""Parts on torch's threads: each is done once, whoever takes it."""

import numpy as np
import pytest
import torch
from numba import carray  # type: ignore[attr-defined] # numba's stubs leave it out

from sharpminima.runtime import parallel
from sharpminima.runtime.parallel import PARTS, Parts, next_part, pointer


def _count(data: int) -> None:
    a = carray(data, (3,), np.int64)
    found = carray(pointer(a[2]), (a[PARTS],), np.int64)
    while True:
        number = next_part(data)
        if number >= a[PARTS]:
            return
        found[number] += number + 1


COUNT = Parts(_count)


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize(("threads", "parts"), [(1, 5), (3, 100), (4, 2)])
def test_each_part_is_done_once(threads: int, parts: int, openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(parallel, "_openmp", lambda: None)
    found = np.zeros(parts, np.int64)
    try:
        torch.set_num_threads(threads)
        COUNT(parts, found.ctypes.data)
    finally:
        torch.set_num_threads(1)
    assert found.tolist() == list(range(1, parts + 1))
