"""Random numbers: one explicit generator for each (study seed, role, replica), and no global state."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *role: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and on every part of ``role``, and on nothing else.

    >>> derive_seed(0, "init", 1) == derive_seed(0, "init", 1)
    True
    >>> derive_seed(0, "init", 1) == derive_seed(0, "init", 2)
    False
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in role)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *role: str | int) -> torch.Generator:
    """A CPU generator for one purpose, e.g. ``generator(0, "reinit", replica)``.

    Draws are made on the CPU on every device, so that a CUDA run starts from the same numbers.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *role))


@contextmanager
def global_draws(device: torch.device) -> Iterator[None]:
    """Torch's own generators as they were, behind it: within, layers that draw from them (dropout) may be seeded."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def seed_global_draws(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of ``device``, within `global_draws`.

    >>> with global_draws(torch.device("cpu")):
    ...     seed_global_draws(1, torch.device("cpu"))
    ...     first = torch.rand(())
    ...     seed_global_draws(1, torch.device("cpu"))
    ...     bool(first == torch.rand(()))
    True
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
