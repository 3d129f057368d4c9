"""Strided positions within kernels: Anwar, Hwang, Sung, "Structured pruning of deep convolutional neural networks", ACM
Journal on Emerging Technologies in Computing Systems 13 (2017); Mao, Han, Pool, Li, Liu, Wang, Dally, "Exploring the
granularity of sparsity in convolutional neural networks", CVPR workshops 2017.

All kernels of a channel keep the same positions, so that a lowered convolution multiplies a smaller matrix. Positions
that are ``stride`` apart, counted row by row from an offset, leave together: where all but one offset of a channel have
left, its kernels are strided as in Anwar et al. A stride of the kernel's width gives its columns, the vectors of Mao et
al., one of its size single positions.

By default positions leave by the mean size of their weights (Mao et al.); ``choice: particles`` lets masks compete
(Anwar et al.). Ours: that a channel may keep several offsets, the rounds, and that weights of linear layers, kernels of
1x1, leave as well, one by one.
"""

from torch import Tensor

from sharpminima.pruning.engine.structures import Structures, positions_of
from sharpminima.pruning.structured.structure_rounds import StructureRounds


class Positions(StructureRounds):
    """Structures are positions of a channel's kernels."""

    def partition(self, weight: Tensor) -> Structures:
        """Positions a stride apart."""
        return positions_of(weight, self.settings.stride)
