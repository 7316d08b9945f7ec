"""The stop condition `until`: a value of the task's metric, such as `val_accuracy>=0.99` or `val_rmse<=0.1`.

The metric is the task's own, on the validation split, under the name of its column in tables. The task also decides
whether larger or smaller values are better.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aquasurf_ray.training_metrics import on_split

if TYPE_CHECKING:
    from aquasurf_ray.tasks.objective import Metric  # which loads PyTorch

FORM = re.compile(r"\s*(?P<metric>[^<>=]*[^<>=\s])\s*(?P<sign>>=|<=)\s*(?P<value>[^<>=]+)")


@dataclass(frozen=True)
class Until:
    """`metric`, a column such as `val_accuracy`, reaches `value`: from below if `at_least`, else from above."""

    metric: str
    at_least: bool
    value: float

    @classmethod
    def parse(cls, text: str) -> Until:
        """Return the condition that a text describes.

        Raises:
            ValueError: the text is not a condition, or its value is not finite.

        >>> str(Until.parse(" val_rmse <= 0.10 "))
        'val_rmse<=0.1'
        """
        found = FORM.fullmatch(text)
        try:
            value = float(found["value"]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or not math.isfinite(value):
            raise ValueError("must be a metric and a value, such as val_accuracy>=0.99 or val_rmse<=0.1")
        return cls(found["metric"], found["sign"] == ">=", value)

    def __str__(self) -> str:
        return f"{self.metric}{'>=' if self.at_least else '<='}{self.value:g}"

    def problem_with(self, metric: Metric) -> str | None:
        """Return why the condition does not fit a task with this metric, or None if it does.

        >>> from aquasurf_ray.tasks.objective import ACCURACY
        >>> Until("val_accuracy", False, 0.9).problem_with(ACCURACY)
        'the metric of the task is val_accuracy, where larger is better; write val_accuracy>=0.9'
        """
        wanted = Until(on_split(metric.name), metric.higher_is_better, self.value)
        if self == wanted:
            return None
        better = "larger" if metric.higher_is_better else "smaller"
        return f"the metric of the task is {wanted.metric}, where {better} is better; write {wanted}"

    def is_met(self, score: float | None) -> bool:
        """Return whether a score reaches the value. Scores have the sign changed where a smaller metric is better.

        >>> Until("val_rmse", False, 0.1).is_met(-0.09), Until("val_accuracy", True, 0.99).is_met(None)
        (True, False)
        """
        return score is not None and score >= (self.value if self.at_least else -self.value)
