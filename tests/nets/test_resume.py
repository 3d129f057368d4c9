"""Resume files: refused where no file can lie, before anything is computed."""

import os

import pytest
import torch
from torch import nn

from sharpminima.analysis import (
    hessian_along_line,
    hessian_density,
    hessian_diagonal,
    hessian_eigenvalues,
    hessian_trace,
    loss_barrier,
    loss_surface,
    loss_surface_around,
    psp_entropy,
)
from sharpminima.base.errors import CheckpointError
from sharpminima.nets.activations import identified
from sharpminima.nets.checkpoint import save_checkpoint
from sharpminima.nets.resume import FinishedParts, ResumeFile


def test_a_path_where_no_file_can_lie_is_refused_at_the_beginning(tmp_path):
    (tmp_path / "file").touch()
    net, calls = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), []
    net.register_forward_hook(lambda *_: calls.append(1))
    images, labels = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    for path, message in (
        (tmp_path, "is a folder; give the name of a resume file in it"),
        (tmp_path / "file" / "state", "file is a file; give a resume file in a folder"),
        (tmp_path / "file" / "below" / "state", "file is a file; give a resume file in a folder"),
        (7, "the resume file is 7; give a path"),
    ):
        for kind in (ResumeFile, FinishedParts):
            with pytest.raises(CheckpointError, match=message):
                kind(path, fingerprint="job")
        with pytest.raises(CheckpointError, match=message):
            hessian_eigenvalues(net, images, labels, k=1, resume=path)
        calls.clear()
        with pytest.raises(CheckpointError, match=message):
            loss_surface(net, net, images, labels, resume=path)
        assert not calls


def a_checkpoint(path):
    net = nn.Linear(2, 2)
    save_checkpoint(path, [net.state_dict()])


def a_resume_file_with_another_beginning(path):
    ResumeFile(path, fingerprint="job").save({"done": 1})
    path.write_bytes(b"x" * 20 + path.read_bytes()[20:])


def a_result(path):
    net, images, labels = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    hessian_eigenvalues(net, images, labels, k=1).save(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("precious"),
        lambda path: path.write_text("x"),
        lambda path: path.write_bytes(bytes(99) + b"precious"),
        lambda path: torch.save({"a": torch.ones(2)}, path),
        a_checkpoint,
        a_resume_file_with_another_beginning,
        a_result,
    ],
)
def test_a_file_that_is_no_resume_file_is_refused_and_kept(make, tmp_path):
    path = tmp_path / "kept.safetensors"
    make(path)
    before, calls = path.read_bytes(), []
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2)]
    for net in nets:
        net.register_forward_hook(lambda *_: calls.append(1))
    data = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    before_computing = (
        lambda: psp_entropy(nets[0], *data, by_class=True, resume=path),
        lambda: loss_surface(*nets, *data, resume=path),
        lambda: loss_surface_around(nets[0], *data, directions="eigenvectors", resume=path),
        lambda: loss_barrier(*nets, *data, resume=path),
        lambda: hessian_along_line(*nets, *data, k=1, resume=path),
        lambda: hessian_eigenvalues(nets[0], *data, k=1, resume=path),
        lambda: hessian_trace(nets[0], *data, resume=path),
        lambda: hessian_density(nets[0], *data, resume=path),
        lambda: hessian_diagonal(nets[0], *data, resume=path),
        lambda: FinishedParts(path, fingerprint="job"),
    )
    for measure in before_computing:
        with pytest.raises(CheckpointError, match=r"is no resume file, .* give another name, or remove it"):
            measure()
        assert path.read_bytes() == before
        assert not calls


def test_pipes_and_devices_are_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", os.devnull):
        with pytest.raises(CheckpointError, match="is no ordinary file; give another name to the resume file"):
            ResumeFile(path, fingerprint="job")


@pytest.mark.parametrize("size", [0, 9, 20, 60, 200])
def test_a_resume_file_that_is_cut_off_is_ignored(size, tmp_path):
    path = tmp_path / "state"
    ResumeFile(path, fingerprint="job").save({"done": 1, "values": torch.ones(99)})
    path.write_bytes(path.read_bytes()[:size])
    for kept in (path.read_bytes(), bytes(size)):  # zeros: never written out when the power went
        path.write_bytes(kept)
        file = ResumeFile(path, fingerprint="job")
        assert file.load() is None
        file.save({"done": 2})
        assert file.load() == {"done": 2}


def test_folders_that_are_missing_are_made(tmp_path):
    file = ResumeFile(os.fspath(tmp_path / "new" / "state"), fingerprint="job")
    file.save({"done": 1})
    assert file.load() == {"done": 1}


def test_what_identifies_activations():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Sequential(nn.ReLU()))
    assert [identified(name, net) for name in ("relu", "all")] == ["relu", "all"]  # as in the files of studies
    assert identified(lambda module: isinstance(module, nn.ReLU), net) == ["1", "2.0"]
