"""Step time and activation memory of ResNet-56 with simple and composed activation functions, eager and fast forms.

Claim: with the fast forms, a composed function costs at most 10% more step time than ReLU and 10% more memory than
swish on a GPU. A step is the forward pass, the backward pass and SGD's step on one batch of 32x32 images. Memory is the
bytes that autograd keeps between the two passes, without parameters; ReLU keeps only its output, which the next layer
keeps too, and swish keeps its input in addition, like both fast forms.

    python benchmarks/activations.py [--batch 32] [--threads 1] [--rounds 5] [--steps 20000] > activations.json

Runs on the CPU, and on a GPU where PyTorch sees one. `--steps` is the length of the training that the choice is made
for; `form` is the chosen form and `choice_seconds` the time of the choice, including compilation. All networks of a
device take turns, so that the machine's other load affects all; values are medians. With `--threads 1`, the CPU's
seconds are the thread's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import torch
from torch import nn

from aquasurf_ray.activations import Activation, fast_factory
from aquasurf_ray.activations.forms.stopwatch import kept_bytes, side_by_side
from aquasurf_ray.tasks.networks.resnet56 import resnet56

FUNCTIONS = [
    "relu(x)",
    "swish(x)",
    "mul(sigmoid(x),elu(x))",
    "prod_n(sigmoid(x),negative(x),hard_sigmoid(x))",
]
"""Two operators of PyTorch's own, then one function of three nodes and one of four."""


class Case:
    """One network on one batch; the learning rate is zero, so that every step does the same work."""

    def __init__(self, form: str, factory, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        torch.manual_seed(0)
        self.form = form
        self.network = resnet56(factory).to(inputs.device).train()
        self.inputs, self.targets = inputs, targets
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)

    def forward(self) -> torch.Tensor:
        return nn.functional.cross_entropy(self.network(self.inputs), self.targets)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()
        self.optimizer.step()


def activation_inputs(inputs: torch.Tensor) -> list[int]:
    """Return the number of elements that each activation of the network gets."""
    sizes: list[int] = []
    network = resnet56(nn.ReLU).to(inputs.device)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _, args: sizes.append(args[0].numel()))
    with torch.no_grad():
        network(inputs)
    return sizes


def measure(device: torch.device, batch: int, rounds: int, steps: int) -> list[dict[str, object]]:
    """Measure all cases on one device."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, 3, 32, 32, generator=generator).to(device)
    targets = (torch.arange(batch) % 10).to(device)
    sizes = activation_inputs(inputs)
    cases, facts = [], []
    for function in FUNCTIONS:
        start = time.perf_counter()
        ours = fast_factory(
            function, device=device, n_elements=sum(sizes) // len(sizes), expected_calls=steps * len(sizes)
        )
        choice_seconds = round(time.perf_counter() - start, 2)
        cases.append(Case("eager", lambda function=function: Activation(function), inputs, targets))
        facts.append({"way": "eager", "function": function, "form": "eager"})
        cases.append(Case(ours.name, ours.factory, inputs, targets))
        facts.append({"way": "ours", "function": function, "form": ours.name, "choice_seconds": choice_seconds})
    for case in cases:
        case.step()
    kept = [kept_bytes(case.forward, case.network.parameters()) for case in cases]
    times = side_by_side([case.step for case in cases], device, min_rounds=rounds, max_rounds=rounds)
    seconds = [time.median for time in times]
    relu_seconds, swish_bytes = seconds[0], kept[2 * FUNCTIONS.index("swish(x)")]
    figures = [
        {
            "step_ms": round(s * 1e3, 2),
            "of_relus_step": round(s / relu_seconds, 3),
            "kept_mb": round(b / 1e6, 2),
            "of_swishs_memory": round(b / swish_bytes, 3),
        }
        for s, b in zip(seconds, kept, strict=True)
    ]
    return [{**fact, **figure} for fact, figure in zip(facts, figures, strict=True)]


def main() -> None:
    """Measure on every available kind of device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    results = []
    for name in devices:
        device = torch.device(name)
        machine = torch.cuda.get_device_name() if name == "cuda" else platform.processor() or platform.machine()
        load = round(os.getloadavg()[0], 2)
        cases = measure(device, options.batch, options.rounds, options.steps)
        results.append({"device": name, "machine": machine, "load_before": load, "cases": cases})
    setting = {"batch": options.batch, "threads": options.threads, "rounds": options.rounds, "steps": options.steps}
    print(json.dumps({"network": "resnet56", "torch": torch.__version__, **setting, "devices": results}, indent=2))


if __name__ == "__main__":
    main()
