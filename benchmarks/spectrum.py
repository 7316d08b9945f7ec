"""Seconds and peak memory of a Fisher spectrum of All-CNN-C at initialisation, compared with the obvious computation.

Claim: at least 8 times faster than the 22-25 s of the paper's code for a batch of 128 on 2 cores, in under 1.2 GB (the
part of the import of torch is reported as `import_mb`). The obvious way (`naive`) keeps every layer's input and output
gradient, unfolds all patches, and forms and diagonalises both factors in float64; it gives the same eigenvalues, and
the largest difference of log-eigenvalues is reported.

    python benchmarks/spectrum.py [--threads 2] [--repeats 3] > spectrum.json

Every case runs in a separate process. `seconds` is the fastest of the repeats, `first_seconds` the first;
`compress_seconds` is the time to compute the stored feature of the spectrum.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

CASES = [
    ("ours", "relu(x)", 128),
    ("naive", "relu(x)", 128),
    ("ours", "relu(x)", 32),
    ("naive", "relu(x)", 32),
    ("ours", "mul(sigmoid(x),elu(x))", 128),
]


def peak_mb() -> float:
    """Return this process's peak resident memory in MB (2**20 bytes); Linux counts in kilobytes, macOS in bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1)


def naive_spectrum(model, inputs, targets):
    """Return [(A eigenvalues, G eigenvalues)] of a network of 2-D convolutions, by the formulas and at any cost."""
    import torch
    from torch import nn
    from torch.nn import functional

    kept = []
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m, args, out: kept.append((m, args[0], out))) for m in layers]
    loss = functional.cross_entropy(model(inputs), targets, reduction="sum")
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(loss, [out for _, _, out in kept])
    pairs = []
    for (layer, x, _), gradient in zip(kept, gradients, strict=True):
        patches = functional.unfold(x.detach().double(), layer.kernel_size, padding=layer.padding, stride=layer.stride)
        patches = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        a = torch.cat([patches, torch.ones(len(patches), 1, dtype=torch.float64)], dim=1)
        g = gradient.double().movedim(1, -1).reshape(-1, gradient.shape[1])
        moments = (a.T @ a / len(inputs), g.T @ g / len(g))
        pairs.append(tuple(torch.linalg.eigvalsh(m).numpy() for m in moments))
    return pairs


def largest_difference(spectra, pairs) -> float:
    """Return the largest difference of log-eigenvalues, with the floor on both sides."""
    import numpy as np

    worst = 0.0
    for spectrum, pair in zip(spectra, pairs, strict=True):
        for ours, theirs in zip((spectrum.input_eigenvalues, spectrum.gradient_eigenvalues), pair, strict=True):
            floored = np.maximum(theirs, 1e-7 * theirs.max())
            worst = max(worst, float(np.abs(np.log(ours) - np.log(floored)).max()))
    return worst


def measure(way: str, function: str, batch: int, threads: int, repeats: int) -> dict[str, object]:
    """Measure one case in this process."""
    import torch

    from aquasurf_ray.activations import lean_factory
    from aquasurf_ray.surrogate.spectra import compress
    from aquasurf_ray.tasks.networks.all_cnn_c import all_cnn_c
    from aquasurf_ray.workers.spectrum import fisher_spectrum

    torch.set_num_threads(threads)
    import_mb = peak_mb()
    torch.manual_seed(0)
    model = all_cnn_c(lean_factory(function)).eval()  # no dropout, so that both ways see the same numbers
    inputs, targets = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10
    model, inputs = (what.to(memory_format=torch.channels_last) for what in (model, inputs))  # as the recipe has it
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        if way == "naive":
            result = naive_spectrum(model, inputs, targets)
        else:
            result = fisher_spectrum(model, inputs, targets, fisher="empirical")
        seconds.append(time.perf_counter() - start)
    figures = {"first_seconds": round(seconds[0], 3), "seconds": round(min(seconds), 3), "peak_mb": peak_mb()}
    if way == "naive":
        spectra = fisher_spectrum(model, inputs, targets, fisher="empirical")
        figures["largest_log_difference"] = round(largest_difference(spectra, result), 5)
    else:
        start = time.perf_counter()
        feature = compress(result).to_bytes()
        figures |= {"compress_seconds": round(time.perf_counter() - start, 4), "feature_bytes": len(feature)}
    return {"way": way, "function": function, "batch": batch, "import_mb": import_mb, **figures}


def in_own_process(case: tuple[str, str, int], threads: int, repeats: int) -> dict[str, object]:
    """Measure one case in a fresh process whose thread pools have `threads` threads."""
    pools = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    way, function, batch = case
    arguments = ["--case", way, function, str(batch), "--threads", str(threads), "--repeats", str(repeats)]
    load = os.getloadavg()[0]
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **pools},
        cwd=Path(__file__).parent.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {**json.loads(done.stdout), "load_before": round(load, 2)}


def main() -> None:
    """Run all cases, or with `--case` one of them here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", nargs=3, metavar=("WAY", "FUNCTION", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        way, function, batch = options.case
        print(json.dumps(measure(way, function, int(batch), options.threads, options.repeats)))
        return
    import torch

    machine = {"threads": options.threads, "cores": os.cpu_count(), "python": platform.python_version()}
    cases = [in_own_process(case, options.threads, options.repeats) for case in CASES]
    print(json.dumps({"network": "all-cnn-c", "torch": torch.__version__, **machine, "cases": cases}, indent=2))


if __name__ == "__main__":
    main()
