"""The page on what training with PSP-entropy came to, from the study `entropy`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from result_pages.cells import digits
from sharpminima.report.claims import as_markdown, readings_as_markdown
from sharpminima.report.titles import short_title_of, title_of_net
from sharpminima.report.ways import Way, by_net

_TEXT = """\
# What training that maximises PSP-entropy does

<!-- Written by docs/results.py from the tables of the study `entropy`. -->

The paper closes with the thought that learning which maximises PSP-entropy could help. The study `entropy` trains dense
nets, LOBSTER ([G](../explanation/terms.md)) and its one-shot lottery tickets (1-S) with
[that entropy beside the loss](../howto/entropy.md): beta is what a bit is worth in nats, above 0 it is maximised, below
0 minimised, and 0 is the plain training. Rules and margins of
[`paper/claims-entropy.yaml`](../../paper/claims-entropy.yaml) stood before the first run; a difference is that
of nets with the chosen beta, 0.03, less plain ones, in pairs by run. One run of dense LeNet-300 on MNIST chose it by
the validation loss, closely (`paper/tuning/psp-entropy.csv`; by the error it would be 0.01); Fashion-MNIST and LeNet-5
take it over. What matters is 0.1 points of test error on MNIST, 0.3 on Fashion-MNIST, and 5 % of the mean of both of
anything else.

{outcome}

![Test error, measured PSP-entropy and linear probes against beta](entropy.png)

*Test error of dense nets, and of G and 1-S at the highest level
({levels} removed); PSP-entropy of
their states on 10,000 training images, summed over ten classes (at most 10 bits at first order, 20 at second); test
error of a linear probe on the other dataset. Dots: runs; bars: one sample standard deviation. Betas are not to scale.*

## The claims

An asterisk stands at verdicts that survive Holm's correction over all claims. "49 runs would decide": about four in
five samples of so many would, if mean and spread stayed. A comparison whose verdict is another than the claim's has it
beside.

{claims}

Other readings decide nothing:

{readings}

## By beta

Mean ± standard deviation (number of runs).
{ways}

`snakemake --cores all --config study=entropy` trains it anew. Figures and the report, `paper/build/entropy.pdf`, which
has all eigenvalues at betas 0 and 0.03 too, come of what is tracked ([how](../dvc.md#another-study)).
"""
_OF_WAYS = {
    "test_error_percent": "test error (%)",
    "entropy_1_bits": "first order (bits)",
    "entropy_2_joint_bits": "second order, joint (bits)",
    "probe_error_percent": "probe error on the other dataset (%)",
}


def page(numbers: Mapping[str, Any]) -> str:
    """The page on training with PSP-entropy, from the numbers of its study."""
    levels = {e["title"]: e["highest"]["level"] for e in numbers["experiments"] if "@" not in e["model"]}
    return _TEXT.format(
        outcome="\n".join(f"- {sentence}" for sentence in numbers["outcome"]),
        levels=", ".join(f"{100 * level:.6g} % of {title}" for title, level in levels.items()),
        claims=as_markdown(numbers["claims"], head="claim"),
        readings=readings_as_markdown(numbers["claims"]),
        ways="\n".join(_ways(numbers["ways"])),
    )


def _ways(ways: Sequence[Way]) -> Iterator[str]:
    for (dataset, model), own in by_net(ways).items():
        yield f"\n**{title_of_net(model, dataset)}**\n"
        shown = [q for q in _OF_WAYS if any(q in known for way in own for known in way["nets"].values())]
        yield f"| beta | net | {' | '.join(_OF_WAYS[q] for q in shown)} |\n|{' --- |' * (len(shown) + 2)}"
        for way in own:
            for end, known in way["nets"].items():
                cells = [f"{digits(known[q])} ({known[q]['n']})" if q in known else "–" for q in shown]
                yield f"| {way['beta']:g} | {short_title_of(end)} | {' | '.join(cells)} |"
