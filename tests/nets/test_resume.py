"""Resume files: refused where no file can lie, before anything is computed."""

import os

import pytest
import torch
from torch import nn

from sharpminima.analysis import hessian_eigenvalues, loss_surface
from sharpminima.base.errors import CheckpointError
from sharpminima.nets.activations import identified
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


def test_folders_that_are_missing_are_made(tmp_path):
    file = ResumeFile(os.fspath(tmp_path / "new" / "state"), fingerprint="job")
    file.save({"done": 1})
    assert file.load() == {"done": 1}


def test_what_identifies_activations():
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Sequential(nn.ReLU()))
    assert [identified(name, net) for name in ("relu", "all")] == ["relu", "all"]  # as in the files of studies
    assert identified(lambda module: isinstance(module, nn.ReLU), net) == ["1", "2.0"]
