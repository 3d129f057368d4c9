"""Pruning while the net trains: the mask tightens by a schedule; any criterion, any distribution.

`agp`: Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017: by
magnitude, with sparsity s (1 - (1 - t/n)^3) after update t of n, layer by layer.

The authors' are the cubic schedule, the magnitude, layer by layer, and that what has left stays away. Ours:
when it begins and ends, and 50 updates in between (theirs come each 100 to 1,000 steps); that the survivors of all
tensors together are exactly the number asked for; the search from W0, and the training with the masks that follows it;
any other criterion, distribution or schedule.
"""

import copy
from typing import Any

from sharpminima.catalogue.methods.choices import CRITERIA
from sharpminima.catalogue.methods.gradual import AgpSettings
from sharpminima.nets.masks import all_masks, count
from sharpminima.nets.resume import ResumeFile
from sharpminima.pruning.engine.criteria import Candidate, draw_sample, keep_scored
from sharpminima.pruning.engine.distribution import survivors_at
from sharpminima.pruning.engine.method import Run
from sharpminima.pruning.engine.schedule import survivor_counts
from sharpminima.pruning.engine.search import SearchPolicy, SearchResult, search_result
from sharpminima.pruning.engine.trainings import fit
from sharpminima.runtime.rng import generator
from sharpminima.training import FlatModel


class Tightening(SearchPolicy):
    """Removes what scores lowest, so many at a time."""

    def __init__(self, run: Run, settings: AgpSettings, flat: FlatModel, level: float) -> None:
        super().__init__(run, settings)
        self._run, self._settings = run, settings
        self.masks = all_masks(flat.model)
        _, size = count(self.masks)
        counts = survivor_counts(settings.schedule, size, survivors_at(level, size), settings.updates)
        first, last = (max(1, round(share * self.total_steps)) for share in (settings.begin, settings.end))
        steps = [last - round((last - first) * (1 - n / len(counts))) for n in range(1, len(counts) + 1)]
        self._due = dict(zip(steps, counts, strict=True))  # step -> survivors; of several at one step the last

    def after_step(self, flat: FlatModel) -> None:
        """Remove what scores lowest, where the schedule has this step."""
        super().after_step(flat)
        if self.steps not in self._due:
            return
        run, settings = self._run, self._settings
        sample = draw_sample(
            run.training, settings.samples_per_class, generator(run.seed, "gradual", "sample", self.steps)
        )
        draws = generator(run.seed, "gradual", "draws", self.steps)
        candidate = Candidate(flat.model, self.masks, sample, draws, settings.batches)
        self.masks = keep_scored(CRITERIA[settings.criterion], candidate, self._due[self.steps], settings.distribution)
        flat.set_masks(self.masks)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and JSON values; a resume file holds it."""
        return {**super().state(), "masks": self.masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, to the same bits."""
        super().restore(state)
        self.masks = state["masks"]


def search(run: Run, level: float, settings: AgpSettings, resume: ResumeFile | None) -> SearchResult:
    """Train from W0 while the mask tightens to the level."""
    flat = FlatModel(copy.deepcopy(run.model), compaction=run.compaction)
    policy = Tightening(run, settings, flat, level)
    history = fit(run, flat, policy, settings, ("agp", "search"), resume)
    return search_result(flat, policy.masks, history)
