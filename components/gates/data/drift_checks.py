"""How far data are from those behind the champion. Plain functions: both in, a finding out."""

from components import features
from components.gates.data.facts import Data, Finding
from components.gates.data.profile import (
    Profile,
    comparable_shares,
    expected_oov_rate,
    js_divergence,
    median_bin,
    oov_rate,
)
from components.gates.verdict import MOST_ROWS


def class_drift(data: Data, champion: Profile) -> Finding:
    """Measures the largest factor by which a class's odds in train grew or shrank.

    Odds and not shares: a class that is sampled k times as densely has k times the odds, however large it was.
    """
    now, then = data.profile.classes[features.TRAIN], champion.classes[features.TRAIN]
    if len(now) != len(then):
        return Finding(None, f"train has {len(now)} classes, the champion's had {len(then)}")
    if not any(now):
        return Finding(None, "train has no row of a known class")
    found = []
    for name, count, before in zip(data.classes, now, then, strict=True):
        # One row more on both sides: a class that is gone has changed by much, and not by infinity.
        factor = ((count + 1) / (sum(now) - count + 1)) / ((before + 1) / (sum(then) - before + 1))
        found.append((max(factor, 1 / factor), name, count / sum(now), before / sum(then)))
    found.sort(key=lambda item: -item[0])
    factor, name, share, before_share = found[0]
    rows = tuple(f"{item[1]}: {item[2]:.1%} of train, was {item[3]:.1%}" for item in found[:MOST_ROWS])
    return Finding(
        factor,
        f"class {name} is {share:.1%} of train, was {before_share:.1%}: its odds changed {factor:.3g}-fold",
        rows,
    )


def length_drift(data: Data, champion: Profile) -> Finding:
    """Measures the Jensen-Shannon divergence, in bits, of words per text."""
    bits = js_divergence(data.profile.lengths, champion.lengths)
    now, then = median_bin(data.profile.lengths), median_bin(champion.lengths)
    return Finding(bits, f"words per text of train diverge by {bits:.3g} bits, median now {now}, was {then}")


def vocabulary_drift(data: Data, champion: Profile) -> Finding:
    """Measures the Jensen-Shannon divergence, in bits, of the words of train, and shows those that grew most."""
    if not (data.profile.tokens and champion.tokens):
        empty = "train" if not data.profile.tokens else "the champion's train split"
        return Finding(1, f"words of train diverge by 1 bit: {empty} holds none")
    now, then = comparable_shares(data.profile, champion)
    bits = js_divergence(now, then)
    grown = sorted((item for item in now if item and now[item] > then[item]), key=lambda item: then[item] - now[item])
    rows = tuple(f'word "{item}": {now[item]:.2%} of train, was {then[item]:.2%}' for item in grown[:MOST_ROWS])
    return Finding(bits, f"words of train diverge by {bits:.3g} bits, measured on {len(now) - 1:,} common ones", rows)


def new_words(data: Data, champion: Profile) -> Finding:
    """Measures by how much the share of words unknown to the champion's data exceeds what is expected of any data."""
    rate, expected = oov_rate(data.words, champion.words), expected_oov_rate(champion)
    new = sorted(
        (item for item in data.words if item not in champion.words), key=lambda item: (-data.words[item], item)
    )
    rows = tuple(f'word "{item}": {data.words[item]:,} times' for item in new[:MOST_ROWS])
    said = (
        f"the champion's data lack {rate:.2%} of train's words, {expected:.2%} expected: growth {rate - expected:.2%}"
    )
    return Finding(rate - expected, said, rows)


def row_collapse(data: Data, champion: Profile) -> Finding:
    """Measures the rows of train as a share of the champion's."""
    now, then = data.profile.rows[features.TRAIN], champion.rows[features.TRAIN]
    return Finding(now / then, f"train has {now:,} rows, {now / then:.2%} of the champion's {then:,}")
