"""The defaults of the verbs' own arguments, in Python and on the command line; settings have theirs in the model."""

EVALUATE_SEEDS = 1
BUILD_SEEDS = 3
CONFIRM_TOP = 5
CONFIRM_SEEDS = 5
RATE_SEEDS = 2
TRANSFER_TOP = 3
TRANSFER_SEEDS = 3
STORAGE = "aquasurf-storage"
"""The folder of epoch checkpoints, in the working folder."""

TASK_TEXT = "Task by name, or package.module:function for your own."
"""The help of every option that takes a task."""

MODULES_TEXT = "Python module that registers your own operators; may be repeated."
"""The help of every option that takes modules."""

STORE_TEXT = "Database URL."
STORE_DEFAULT = "AQUASURF_STORE, or else sqlite:///aquasurf.db in the working folder"
"""The help of every option that takes a database, and which one is used without it."""
