"""Methods beside each other."""

import pandas as pd

from sharpminima.figures import comparison

from . import cases


def test_methods_stand_in_the_order_of_their_error() -> None:
    rows = [
        cases.result(method=method, level=level, test_error_percent=error, reached=reached, epochs=epochs)
        for method, level, error, reached, epochs in [
            ("snip", 0.9, 2.0, True, 20),
            ("snip", 0.98, 4.0, True, 20),
            ("l0", 0.9, 5.0, True, 40),
            ("l0", 0.98, 6.0, False, 40),
        ]
    ]
    figure = comparison.methods_compared(pd.DataFrame(rows))
    left, right, below = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["l0", "snip"]
    assert left.get_xlabel() == "test error (%)"
    drawn = {(line.get_xdata()[0], line.get_ydata()[0]): line.get_markerfacecolor() for line in left.lines}
    assert set(drawn) == {(2.0, 1), (4.0, 1), (5.0, 0), (6.0, 0)}
    assert [point for point, face in drawn.items() if face == "white"] == [(6.0, 0)]
    assert {tuple(line.get_xydata()[0]) for line in below.lines} == {(20, 2.0), (20, 4.0), (40, 5.0), (40, 6.0)}
    assert right.xaxis_inverted()
    # Of the lowest error at its density or below; snip beats l0 in both.
    assert {text.get_text() for axes in (right, below) for text in axes.texts} == {"snip"}
