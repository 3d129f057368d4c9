"""Population counts of many words at once.

What numba makes of a loop uses vectors of 256 bits even where the processor has 512. Here the vectors are written as
such, and LLVM makes of them what the processor at hand has.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils as _untyped
from numba.extending import intrinsic

cgutils: Any = _untyped

LANES = 8
"""Neurons of a tile: their words fill a vector."""

ROWS = 4
"""Neurons that meet a tile together: each of its words is loaded once for all of them."""

_INDEX, _LANE = ir.IntType(64), ir.IntType(32)
_WORDS, _COUNTS = ir.VectorType(ir.IntType(64), LANES), ir.VectorType(_LANE, LANES)


def _count_ones(context: Any, word: Any) -> Any:
    """The number of ones in a word: the processor's own instruction, of vectors where it has one."""
    return types.uint64(types.uint64), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


def _meet(context: Any, rows: Any, tile: Any, counts: Any) -> Any:
    """Into ``counts`` uint32 [ROWS, LANES]: the ones that each of ``rows`` uint64 [ROWS, words] shares with each column
    of ``tile`` uint64 [words, LANES]; all three are contiguous."""
    return types.void(rows, tile, counts), _build_meet


def _build_meet(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arrays = (context.make_array(kind) for kind in signature.args)
    rows, tile, counts = (make(context, builder, value) for make, value in zip(arrays, arguments, strict=True))
    words = builder.extract_value(tile.shape, 0)
    count_ones = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_WORDS, [_WORDS]), f"llvm.ctpop.v{LANES}i64"
    )

    def vector(array: Any, index: Any, kind: Any) -> Any:
        """The address of the vector of an array that starts at an index."""
        return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())

    def in_all_lanes(word: Any) -> Any:
        none, first = ir.Constant(_WORDS, ir.Undefined), ir.Constant(_LANE, 0)
        return builder.shuffle_vector(
            builder.insert_element(none, word, first), none, ir.Constant(_COUNTS, [0] * LANES)
        )

    # They stay in registers.
    sums = [cgutils.alloca_once(builder, _WORDS) for _ in range(ROWS)]
    for its_sum in sums:
        builder.store(ir.Constant(_WORDS, [0] * LANES), its_sum)
    with cgutils.for_range(builder, words) as loop:
        columns = builder.load(vector(tile, builder.mul(loop.index, _INDEX(LANES)), _WORDS), align=8)
        for row, its_sum in enumerate(sums):
            place = builder.add(builder.mul(words, _INDEX(row)), loop.index)
            word = builder.load(builder.gep(rows.data, [place]))
            shared = builder.call(count_ones, [builder.and_(in_all_lanes(word), columns)])
            builder.store(builder.add(builder.load(its_sum), shared), its_sum)
    for row, its_sum in enumerate(sums):
        its_counts = builder.trunc(builder.load(its_sum), _COUNTS)
        builder.store(its_counts, vector(counts, _INDEX(row * LANES), _COUNTS), align=4)
    return context.get_dummy_value()


# The contexts that the functions take are numba's own.
ones: Any = intrinsic(_count_ones)
meet: Any = intrinsic(_meet)
