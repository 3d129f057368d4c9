"""Kernels: Mao, Han, Pool, Li, Liu, Wang, Dally, "Exploring the granularity of sparsity in convolutional neural
networks", CVPR workshops 2017; Anwar, Hwang, Sung, "Structured pruning of deep convolutional neural networks", ACM
Journal on Emerging Technologies in Computing Systems 13 (2017).

The whole kernel between a filter and a channel leaves: the filter no longer reads the channel. By default those leave
first whose weights have the smallest L1 norm (Mao et al.); ``choice: particles`` lets masks compete (Anwar et al.).

In both the net is pruned and retrained over and over. Ours: how many rounds there are, that each takes the same share
of what is left, and that weights of linear layers, kernels of 1x1, leave as well, one by one.
"""

from torch import Tensor

from sharpminima.pruning.engine.structures import Structures, kernels_of
from sharpminima.pruning.structured.structure_rounds import StructureRounds


class Kernels(StructureRounds):
    """Structures are kernels."""

    def partition(self, weight: Tensor) -> Structures:
        """Each kernel by itself."""
        return kernels_of(weight)
