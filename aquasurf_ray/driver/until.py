"""A value of the task's metric that a run is content with: `val_accuracy>=0.99`, or `val_rmse<=0.1`.

The metric is the one that the task is judged by, under the name that its column has in tables, on the validation split;
whether it is reached by large values or by small ones is the task's as well.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aquasurf_ray.tasks.objective import Metric  # which loads PyTorch

FORM = re.compile(r"\s*(?P<metric>[^<>=]*[^<>=\s])\s*(?P<sign>>=|<=)\s*(?P<value>[^<>=]+)")


@dataclass(frozen=True)
class Until:
    """`metric` is a column such as `val_accuracy`; at least `value` where the larger is the better, else at most."""

    metric: str
    at_least: bool
    value: float

    @classmethod
    def parse(cls, text: str) -> Until:
        """From its text.

        Raises:
            ValueError: no such form, or no finite number.

        >>> str(Until.parse(" val_rmse <= 0.10 "))
        'val_rmse<=0.1'
        """
        found = FORM.fullmatch(text)
        try:
            value = float(found["value"]) if found else math.nan
        except ValueError:
            value = math.nan
        if found is None or not math.isfinite(value):
            raise ValueError("Input should be a metric and a value, such as val_accuracy>=0.99 or val_rmse<=0.1")
        return cls(found["metric"], found["sign"] == ">=", value)

    def __str__(self) -> str:
        return f"{self.metric}{'>=' if self.at_least else '<='}{self.value:g}"

    def problem_with(self, metric: Metric) -> str | None:
        """Why it cannot be said of a task with this metric, or None.

        >>> from aquasurf_ray.tasks.objective import ACCURACY
        >>> Until("val_accuracy", False, 0.9).problem_with(ACCURACY)
        'the task is judged by val_accuracy, and looks for large values; write val_accuracy>=0.9'
        """
        wanted = Until(f"val_{metric.name}", metric.higher_is_better, self.value)
        if self == wanted:
            return None
        direction = "large" if metric.higher_is_better else "small"
        return f"the task is judged by {wanted.metric}, and looks for {direction} values; write {wanted}"

    def is_met(self, score: float | None) -> bool:
        """Whether a score, which is higher where better, is one to be content with.

        >>> Until("val_rmse", False, 0.1).is_met(-0.09), Until("val_accuracy", True, 0.99).is_met(None)
        (True, False)
        """
        return score is not None and score >= (self.value if self.at_least else -self.value)
