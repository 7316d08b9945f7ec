from .activations import Activation as Activation
from .activations import SearchSpace as SearchSpace
from .activations import parse as parse
from .analysis.benchmarks.parquet import load_benchmark as load_benchmark
from .driver import Study as Study
from .driver import search as search
from .tasks import Task as Task

__version__: str
