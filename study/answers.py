"""The answers of the study in sentences, from the contrasts and the verdicts that the plan's rules give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robust_data.study.analysis import MARGIN, Contrast, Outlasting

QUESTIONS = {
    "H1": "Does the choice matter?",
    "H2": "Is it more than difficulty?",
    "H3": "Is choosing worth it?",
    "H4": "Do robust instances make a model robust?",
    "H5": "Does training overfit the robust ones?",
}
# An arm as the subject of a sentence.
DOING = {
    "flood_robust": "flooding the robust 30 %",
    "flood_random": "flooding a random 30 %",
    "flood_easy": "flooding the easiest 30 %",
    "flood_all": "flooding every instance",
    "flood_permuted": "flooding by permuted statistics",
    "robust_half": "training on the robust half",
    "random_half": "training on a random half",
    "pgd_training": "adversarial training",
    "plain": "plain training",
}


def sentence(contrast: Contrast, data: str) -> str:
    """What may be said of a hypothesis, with its numbers."""
    if contrast.name == "H5":
        return _of_overfitting(contrast)
    first, second = DOING[contrast.first], DOING[contrast.second]
    first = first[0].upper() + first[1:]
    difference = f"{contrast.mean:+.2f} points ({interval(contrast)}; {chance(contrast)})"
    if contrast.verdict in ("higher", "lower"):
        more = "more" if contrast.verdict == "higher" else "less"
        return f"{first} makes a model {more} robust than {second}: {difference}."
    if contrast.verdict == "no effect":
        return (
            f"{first} makes a model as robust as {second}: {difference}, the whole interval within "
            f"±{MARGIN[data]:g} points."
        )
    if _above(contrast) or _below(contrast):
        more = "more" if _above(contrast) else "less"
        return (
            f"{first} seems to make a model {more} robust than {second}, which the test does not decide: {difference}."
        )
    return f"No difference between {first[0].lower()}{first[1:]} and {second} is shown, nor its absence: {difference}."


def brief(contrast: Contrast) -> str:
    """A hypothesis in a line of its numbers."""
    digits = 3 if contrast.name == "H5" else 2
    return (
        f"{contrast.name} {contrast.first} - {contrast.second} {contrast.mean:+.{digits}f} "
        f"({interval(contrast, digits).removeprefix('95 % ')}): {contrast.verdict}."
    )


def _of_overfitting(contrast: Contrast) -> str:
    difference = f"{contrast.mean:+.3f} nats ({interval(contrast, 3)}; {chance(contrast)})"
    words = {
        "higher": "After its minimum the perturbed loss of held-out robust instances rises more than that of "
        "non-robust ones",
        "lower": "After its minimum the perturbed loss of held-out robust instances rises less than that of "
        "non-robust ones",
    }
    fallback = (
        "That the perturbed loss of held-out robust instances rises after its minimum otherwise than that of "
        "non-robust ones is not shown"
    )
    return f"{words.get(contrast.verdict, fallback)}: {difference}."


def interval(contrast: Contrast, digits: int = 2) -> str:
    low, high = contrast.interval
    return f"95 % {low:+.{digits}f} to {high:+.{digits}f}"


def chance(contrast: Contrast) -> str:
    """The exact p, and the adjusted one where there is one."""
    if contrast.p is None:
        return "no p of under 6 pairs"
    adjusted = "" if contrast.p_holm is None else f", {contrast.p_holm:.4f} by Holm"
    return f"p {contrast.p:.4f}{adjusted}"


def pattern(found: Sequence[Contrast], flooding: Mapping[str, Contrast], checked: Sequence[Outlasting] = ()) -> str:
    """Which row of the plan's table "What would mean what" the verdicts of H1 and H2 fall into; "" without both.

    flooding: arms that flood, by name, each beside plain training. checked: pairs of arms under stronger attacks.
    """
    verdicts = {contrast.name: contrast.verdict for contrast in found}
    if not {"H1", "H2"} <= set(verdicts):
        return ""
    # Where attacks that see past folds are made on the model itself, there may be no gain that others could take.
    gained = [one for one in checked if one.white_box.interval[0] > 0]
    gone = [one.is_gone for one in gained if one.worst.second == "flood_random"]
    if any(gone):
        where = "" if all(gone) else " of the stronger attacks"
        return (
            f"Under white-box PGD the choice seems to matter, but the gain{where} is one of masked gradients: attacks "
            "made on other models take it away."
        )
    if verdicts["H1"] == "higher":
        if verdicts["H2"] == "higher":
            return "The choice matters, and it is more than difficulty."
        return "The choice matters beside a random one, but difficulty does as well."
    helps = [DOING[name] for name, contrast in flooding.items() if _above(contrast)]
    costs = [DOING[name] for name, contrast in flooding.items() if _below(contrast)]
    choice = {
        "lower": "Against the claim, flooding the robust instances is worse than flooding random ones",
        "no effect": "It is not the choice",
        "not shown": "That the choice helps is not shown",
    }[verdicts["H1"]]
    if len(helps) == len(flooding):
        return f"{choice}: flooding does it, whatever is flooded."
    if not helps:
        so = "makes a model less robust than plain training does" if len(costs) == len(flooding) else "does not help"
        return f"{choice}, and flooding itself {so}."
    return f"{choice}; of flooding itself only {' and '.join(helps)} helps."


def too_few(found: Sequence[Contrast]) -> str:
    """That so few pairs cannot decide so many hypotheses, whatever the differences are; "" where they can."""
    tested = [contrast for contrast in found if contrast.p is not None]
    if not tested:
        return ""
    lowest = 2 / 2 ** len(tested[0].differences)
    if len(tested) * lowest <= 0.05:
        return ""
    return (
        f"The test cannot decide: of {len(tested[0].differences)} pairs no p is below {lowest:.4f}, and "
        f"{len(tested) * lowest:.4f} by Holm over {len(tested)} hypotheses. The intervals tell more."
    )


def of_masking(checked: Sequence[Outlasting]) -> Iterator[str]:
    """A sentence for each pair of arms: what is left of its difference under attacks made on other models."""
    for one in checked:
        white, worst = one.white_box, one.worst
        told = ": the gain is one of masked gradients" if one.is_gone else ""
        yield (
            f"{worst.first} - {worst.second}: {white.mean:+.2f} points ({interval(white)}) under attacks made on the "
            f"model itself, {worst.mean:+.2f} ({interval(worst)}) where those made on other models count, too "
            f"({one.left[0]:.1f} and {one.left[1]:.1f} % are left){told}{_on_words(one)}."
        )


def _on_words(one: Outlasting) -> str:
    if one.on_words is None:
        return ""
    unexplained = ", which masking does not explain" if one.is_gone and _above(one.on_words) else ""
    return f"; under the worst of all attacks on words {one.on_words.mean:+.2f} ({interval(one.on_words)}){unexplained}"


def _above(contrast: Contrast) -> bool:
    return contrast.interval[0] > 0


def _below(contrast: Contrast) -> bool:
    return contrast.interval[1] < 0


def p_value(p: float | None) -> str:
    return "under 6 pairs" if p is None else f"{p:.4f}"


def difference(contrast: Contrast) -> str:
    low, high = contrast.interval
    return f"{contrast.mean:+.1f} ({low:+.1f} to {high:+.1f})"
