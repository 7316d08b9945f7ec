"""All that waits for a GPU, in one command: the GPU's tests, the activation forms, spectra and a real search.

    python benchmarks/gpu.py --output benchmarks/results/MACHINE [--steps STEP ...] [--minutes 12]

Each step is a process of its own, and its document is written to `gpu-STEP.json` when it ends, so a step that fails or
runs out of time costs the others nothing. The steps share the minutes, in this order:

tests         tests/gpu: passed, failed, skipped
activations   benchmarks/activations.py: the aim is a step within 10% of ReLU's, and never slower than eager
spectrum      seconds and peak memory of the Fisher spectra of ResNet-56 and All-CNN-C at their batch sizes
search        a search on Fashion-MNIST with All-CNN-C and a short recipe; it needs Ray, and the images in AQUASURF_DATA

A machine without a network gets the missing packages from `--wheels FOLDER`: wheels, and wheels in parts named
`NAME.whl.part-0`, `NAME.whl.part-1` and so on, which are joined. `--device cpu` tries the script on a machine without a
GPU, where the tests are skipped, spectra have small batches and the search is one of `fashion-small`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

STEPS = ("tests", "activations", "spectrum", "search")
ROOT = Path(__file__).resolve().parent.parent
TASKS = ("resnet56/cifar10", "all-cnn-c/cifar10")
FUNCTIONS = ("relu(x)", "mul(sigmoid(x),elu(x))")


def main() -> None:
    """Run the steps, each in a process of its own, or with `--step` one of them here."""
    arguments = _arguments()
    if arguments.step is not None:
        print(json.dumps({"spectrum": spectra, "search": searched}[arguments.step](arguments)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    if arguments.wheels is not None:
        install(arguments.wheels)
    for step in arguments.steps:
        document = run(step, arguments, max(1.0, end - time.monotonic()))
        (arguments.output / f"gpu-{step}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(f"{step}: {document['seconds']} s, exit status {document['exit_status']}", flush=True)


def install(wheels: Path) -> None:
    """Install this repository and what it needs from a folder of wheels, after joining those that came in parts."""
    for first in sorted(wheels.glob("*.whl.part-0")):
        whole = first.with_suffix("")
        with whole.open("wb") as file:
            for part in sorted(wheels.glob(f"{whole.name}.part-*"), key=lambda part: int(part.suffix.split("-")[1])):
                file.write(part.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    subprocess.run([*pip, "--no-build-isolation", "-e", str(ROOT)], check=True)


def run(step: str, arguments: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Return the document of one step: what it printed as JSON, and how it ended."""
    own = [sys.executable, __file__, "--step", step, "--device", arguments.device]
    # Without the fixtures and plugins of the other tests, so that PyTorch and pytest are enough.
    alone = ["--noconftest", "-W", "default", "-p", "no:cacheprovider"]
    commands = {
        "tests": [sys.executable, "-m", "pytest", "-q", *alone, "tests/gpu"],
        "activations": [sys.executable, "benchmarks/activations.py"],
        "spectrum": own,
        "search": own,
    }
    started = time.monotonic()
    try:
        done = subprocess.run(
            commands[step], cwd=ROOT, capture_output=True, text=True, timeout=seconds, env=os.environ, check=False
        )
        status, printed, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        status, printed, errors = 124, _text(error.stdout), _text(error.stderr)
    document: dict[str, Any] = {
        "step": step,
        "device": device_name(arguments.device),
        "python": platform.python_version(),
        "exit_status": status,
        "seconds": round(time.monotonic() - started, 1),
    }
    try:
        return document | {"result": json.loads(printed)}
    except json.JSONDecodeError:
        return document | {"output": printed.splitlines()[-40:], "errors": errors.splitlines()[-20:]}


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def device_name(device: str) -> str:
    """Return the name of the GPU, or of the processor."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


def spectra(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure spectra of untrained networks on random images: the first one, and the fastest of three more."""
    import torch

    from aquasurf_ray.activations import lean_factory
    from aquasurf_ray.tasks import load_task
    from aquasurf_ray.workers.network import untrained_network
    from aquasurf_ray.workers.spectrum import fisher_spectrum

    device, rows = torch.device(arguments.device), []
    for name in TASKS:
        task = load_task(name)
        batch = task.spectrum_batch_size if device.type == "cuda" else 8
        inputs = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
        targets = (torch.arange(batch) % 10).to(device)
        for function in FUNCTIONS:
            model = untrained_network(task, lean_factory(function), seed=0, device=device)
            seconds = []
            for _ in range(4):
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    torch.cuda.synchronize()
                started = time.perf_counter()
                layers = fisher_spectrum(model, inputs, targets, fisher="empirical")
                seconds.append(time.perf_counter() - started)
            peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
            rows.append({
                "task": name, "function": function, "batch": batch, "layers": len(layers),
                "first_seconds": round(seconds[0], 3), "seconds": round(min(seconds[1:]), 3),
                "peak_mb": peak and round(peak, 1),
            })  # fmt: skip
    return rows


def searched(arguments: argparse.Namespace) -> dict[str, Any]:
    """Search on Fashion-MNIST with All-CNN-C, whose recipe is cut to two epochs, and return the leaderboard."""
    from aquasurf_ray import search
    from aquasurf_ray.store import Store
    from aquasurf_ray.tasks import load_task

    is_gpu = arguments.device == "cuda"
    task = load_task("all-cnn-c/fashion-mnist" if is_gpu else "fashion-small")
    task = replace(task, name=f"{task.name}, 2 epochs", recipe=replace(task.recipe, epochs=2))
    with tempfile.TemporaryDirectory(prefix="gpu-search") as folder:
        url = f"sqlite:///{folder}/runs.db"
        result = search(
            task, name="gpu", store=url, storage=folder, workers=1, gpus_per_worker=1.0 if is_gpu else 0.0,
            candidates=60 if is_gpu else 8, evaluations=16 if is_gpu else 2,
        )  # fmt: skip
        with Store.open(url) as store:
            board = store.leaderboard(run_id=store.run("gpu").id)
    return {
        "evaluations": result.evaluations,
        "diverged": result.diverged,
        "seconds": round(result.seconds, 1),
        "leaderboard": [{"function": row.function, "score": row.score, "seconds": row.seconds} for row in board[:10]],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build/gpu", help="folder of the documents")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--minutes", type=float, default=12.0, help="time for all steps together")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install from")
    parser.add_argument("--step", choices=("spectrum", "search"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
