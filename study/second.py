"""The page's sections on study 2: more arms on one machine, the counterfactual, and uses by choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from robust_data.study import analysis, counterfactual, drawing, student, uses
from robust_data.study.analysis import Contrast
from robust_data.study.answers import difference, p_value
from robust_data.study.results import PRIMARY_ENDPOINT, Results


class Second:
    """Writes the lines of what is complete; figure: draws one, and gives the lines that show it."""

    def __init__(self, results: Results, figure: Callable[[Figure, str, str], Iterator[str]]):
        self.results, self.figure = results, figure
        self.paired = analysis.paired(results)
        self.folds = analysis.folds(results)
        self.counterfactual = counterfactual.counterfactual(results)
        self.uses = {block: uses.uses(results, block) for block in uses.MEASURED_BY}

    def lines(self) -> Iterator[str]:
        yield from self._paired()
        yield from self._fold()
        yield from self._counterfactual()
        yield from self._planted()
        yield from self._uses()

    def answers(self) -> Iterator[str]:
        """The answers of the parts that are complete, a line each."""
        if self.paired:
            told = [f"{one.first} - {one.second} {difference(one)}: {one.verdict}" for one in self.paired]
            yield f"**More arms (study 2).** {'; '.join(told)}."
        if self.folds:
            yield f"**Why.** {' '.join(self._of_folds())}"
        if self.counterfactual is not None:
            yield f"**Does a score tell?** {self._of_scores()}"
        told = []
        for block, by_way in self.uses.items():
            for way, of_way in by_way.items():
                pay = [use.contrast.first for use in of_way if use.pays and use.contrast.p_holm <= 0.05]
                told.append(f"{block}{', attacked' if way else ''}: {', '.join(pay) if pay else 'none'}")
        if told:
            yield f"**Uses that pay.** {'; '.join(told)}."

    def _of_folds(self) -> Iterator[str]:
        for data, arms in self.folds.items():
            plain, flooded = arms["plain"], arms["flood_robust"]
            leads = [name for name in flooded if name.startswith("lead at")]
            ways = [" ".join(f"{one[name].mean():.2f}" for name in leads) for one in (flooded, plain)]
            yield (
                f"{data.capitalize()}: along plain's ascent flood_robust leads by {ways[0]} nats (plain {ways[1]}), "
                f"and its gradient has a cosine of {flooded['cosine'].mean():.2f} with plain's."
            )

    def _of_scores(self) -> str:
        effects = self.counterfactual.effects[PRIMARY_ENDPOINT]
        told = [f"{name} {difference(effect)}" for name, effect in effects.items() if effect.p_holm <= 0.05]
        foretold = self.counterfactual.predictions["sensitivity"]
        low, high = foretold.interval
        return (
            "One standard deviation of a score, in points of the primary endpoint, beyond the scores before it: "
            f"{'; '.join(told) or 'none is shown'}. Sensitivity alone foretells the robustness of halves that were "
            f"held out with a correlation of {foretold.correlation:.2f} ({low:.2f} to {high:.2f})."
        )

    def _paired(self) -> Iterator[str]:
        """Part A2."""
        if not self.paired:
            return
        yield from ("## Study 2: more arms, each replicate on one machine", "")
        yield "| contrast | difference | 95 % interval | by t | exact p | Holm | verdict |"
        yield "|---|---|---|---|---|---|---|"
        for contrast in self.paired:
            ends = " | ".join(f"{low:+.2f} to {high:+.2f}" for low, high in (contrast.interval, _by_t(contrast)))
            adjusted = "beside them" if contrast.p_holm is None else p_value(contrast.p_holm)
            yield (
                f"| {contrast.first} - {contrast.second} | {contrast.mean:+.2f} points | {ends} | "
                f"{p_value(contrast.p)} | {adjusted} | {contrast.verdict} |"
            )
        yield ""

    def _fold(self) -> Iterator[str]:
        """Part A4: why white-box attacks on flooded models fail."""
        found = self.folds
        if not found:
            return
        yield from ("## Study 2: the fold", "")
        yield (
            "By how much the golden label leads, in nats, along the ascent of plain training's model, on the test "
            "instances that both models get right; the cosine of the two gradients and the ratio of their lengths "
            "there, medians; and how many of the robust training instances lead by the value at which their loss is "
            "the flood level, within 10 %. Means over the replicates, of whole blocks."
        )
        yield ""
        for data, arms in found.items():
            heads = list(next(iter(arms.values())))
            yield f"| {data} | {' | '.join(heads)} |"
            yield "|---" * (len(heads) + 1) + "|"
            for arm, columns in arms.items():
                yield f"| {arm} | {' | '.join(f'{values.mean():.2f}' for values in columns.values())} |"
            yield ""
        caption = "The golden label's lead along the ascent of plain training's model"
        yield from self.figure(drawing.draw_folds(found), "fold", caption)

    def _counterfactual(self) -> Iterator[str]:
        """Part B of study 2."""
        found = self.counterfactual
        if found is None:
            return
        yield from ("## Study 2: does a score tell what an instance does to a model?", "")
        yield (
            "160 models, each trained on half of the images, which leans by random weights towards some scores and "
            "away from others. The effect of one standard deviation of each score, without what those before it "
            "explain, in points with its 95 % interval; bold where it is not 0 by Holm's p over the scores. The random "
            "score is a control, and so is the last line, by the scores of other instances of the class."
        )
        yield ""
        features = list(next(iter(found.effects.values())))
        yield f"| outcome | {' | '.join(features)} |"
        yield "|---" * (len(features) + 1) + "|"
        lines = found.effects | {f"{PRIMARY_ENDPOINT}, permuted scores": found.permuted}
        for outcome, effects in lines.items():
            yield f"| {outcome} | {' | '.join(_effect(effect) for effect in effects.values())} |"
        yield ""
        figure = drawing.draw_counterfactual(found.effects, analysis.MARGIN["images"])
        yield from self.figure(figure, "counterfactual", "The effect of one standard deviation of each score")
        yield (
            f"Predicted against real primary endpoint of the {len(found.real)} halves that the regression has not seen."
            " A score's share is its squared correlation over that of all features."
        )
        yield ""
        yield from ("| by | correlation | 95 % interval | share |", "|---|---|---|---|")
        for name, one in found.predictions.items():
            low, high = one.interval
            yield f"| {name} | {one.correlation:.2f} | {low:.2f} to {high:.2f} | {one.share:.2f} |"
        yield ""
        figure = drawing.draw_predicted(found.predicted, found.real)
        yield from self.figure(figure, "predicted", "Predicted and real robustness of halves that were held out")

    def _planted(self) -> Iterator[str]:
        """Of study 2: how well every score finds what was planted."""
        found = counterfactual.planted_truth(self.results)
        if not found:
            return
        yield from ("### Planted faults", "")
        yield (
            "AUROC of every score within the class: 0.5 is chance, above it the faulty instances have the higher score."
            " Mean ± sample standard deviation over the runs."
        )
        yield ""
        faults = list(next(iter(found.values())))
        yield f"| score | {' | '.join(faults)} |"
        yield "|---" * (len(faults) + 1) + "|"
        for name, by_fault in found.items():
            cells = " | ".join(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in by_fault.values())
            yield f"| {name} | {cells} |"
        yield ""

    def _uses(self) -> Iterator[str]:
        """Part C of study 2."""
        costs = uses.costs(self.results)
        if not costs:
            return
        yield from ("## Study 2: which use of which instances pays?", "")
        yield (
            "30 % are chosen, or left out. A use pays if its interval beside the same use of random instances lies "
            f"above 0 and clean accuracy is at most {uses.PRICE:g} point lower. Passes: forward and backward, per "
            "instance and epoch. Holm over the lines of a way of training. Random beside all: what saved passes cost."
        )
        yield ""
        for block in costs:
            for way, of_way in self.uses[block].items():
                yield from (f"### Block {block}{', under adversarial training' if way else ''}", "")
                yield f"| arm | beside | passes | {uses.MEASURED_BY[block]} | by t | exact p, Holm | clean | pays |"
                yield "|---" * 8 + "|"
                for use in of_way:
                    yield f"| {' | '.join(_use_cells(use))} |"
                yield ""
        yield from self.figure(drawing.draw_costs(costs), "uses", "What every arm reaches, against its passes")


def _by_t(contrast: Contrast) -> tuple[float, float]:
    return student.interval(contrast.differences)


def _use_cells(use: uses.Use) -> Iterator[str]:
    low, high = use.by_t
    yield from (use.contrast.first, use.contrast.second, f"{use.passes:g}", difference(use.contrast))
    yield from (f"{low:+.1f} to {high:+.1f}", p_value(use.contrast.p_holm), difference(use.clean), "yes" * use.pays)


def _effect(effect: Contrast) -> str:
    shown = difference(effect)
    return f"**{shown}**" if effect.verdict in ("higher", "lower") else shown
