"""The frozen dataclasses that pass between the store and its users.

Times are aware UTC, `seconds` are seconds, accuracies are in [0, 1], losses may be NaN or infinite. `score` is what the
search maximises: the task's metric on the validation split, its sign changed if lower is better. A `diverged`
evaluation is the function's own fault and final; a `failed` one is an infrastructure failure.
"""
