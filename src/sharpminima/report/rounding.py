"""How numbers are written in texts, as ``paper/format.typ`` writes them in the report: to the same last digit."""

import math
from decimal import ROUND_HALF_UP, Decimal

_MOST = 4  # decimals


def fixed(value: float, digits: int) -> str:
    """A number with so many decimals, halves away from zero as the shortest decimal that stands for it has them.

    A mean of errors such as 2.155 is a half in decimal and hardly ever in binary: by the usual formatting its last
    digit would hang on which of the two nearest binary numbers a sum came to.

    >>> fixed(2.155, 2), fixed(2.165, 2), fixed(-0.001, 2)
    ('2.16', '2.17', '0.00')
    """
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded.is_zero() else rounded:f}"


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits, rounded as by `fixed`; a large one is whole.

    >>> significant(0.1285, 3), significant(-0.085, 1), significant(2e-05, 2), significant(1234.5, 3), significant(0, 2)
    ('0.129', '-0.09', '2.0e-05', '1235', '0')
    """
    exact = Decimal(repr(float(value)))
    last = exact.adjusted() - digits + 1  # its power of ten
    if exact and last < 0:
        return f"{float(exact.quantize(Decimal(1).scaleb(last), ROUND_HALF_UP)):#.{digits}g}"
    return fixed(value, 0)


def decimals_of(mean: float, spread: float | None = None) -> int:
    """Decimals that give a mean three significant digits and its spread at least one; at most four.

    >>> decimals_of(40.2), decimals_of(40.2, 0.03), decimals_of(0.0, 0.5), decimals_of(1234.0)
    (1, 2, 3, 0)
    """
    wanted = 2 - _order(mean or spread or 1.0)
    if spread:
        wanted = max(wanted, -_order(spread))
    return max(0, min(_MOST, wanted))


def with_spread(mean: float, spread: float | None) -> str:
    """Both with the same decimals.

    >>> with_spread(2.155, 0.09), with_spread(40.24, 0.034), with_spread(7.0, None)
    ('2.16 ± 0.09', '40.24 ± 0.03', '7.00')
    """
    digits = decimals_of(mean, spread)
    return fixed(mean, digits) + ("" if spread is None else f" ± {fixed(spread, digits)}")


def _order(value: float) -> int:
    return math.floor(math.log10(abs(value)))
