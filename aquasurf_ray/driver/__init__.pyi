from .run.spec import RunResult as RunResult
from .verbs.build import build_benchmark as build_benchmark
from .verbs.confirm import confirm as confirm
from .verbs.evaluate import evaluate as evaluate
from .verbs.propose import propose as propose
from .verbs.resume import resume as resume
from .verbs.search import search as search
from .verbs.stop import request_stop as request_stop
