"""Are deeper suffixes of several members faster together (torch.func.vmap) or one after another?

    python -m benchmarks.members [--members 4] [--repeats 5]

One step, forward and backward, ResNet-18 at 32 pixels, batches of 50 (the default) and 512 images, the same batch for
all members. Ours trains them one after another on a CPU, because of this measurement; heads alone are trained together.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks import plain
from benchmarks.cases import RESULTS
from sweep.config import Unit
from sweep.models import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = []
    for depth in (4, 3, 2):
        for batch in (50, 512):
            members = [suffix(depth, seed).to(device) for seed in range(options.members)]
            x, y = inputs(depth, batch).to(device), torch.arange(batch, device=device) % 10
            steps = {"sequential": sequential(members, x, y), "together": together(members, x, y)}
            found: dict[str, list[float]] = {name: [] for name in steps}
            for step in steps.values():
                step()  # memory and kernels
            for _ in range(options.repeats):
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    plain.wait(device)
                    found[name].append(time.perf_counter() - start)
            medians = {name: statistics.median(values) for name, values in found.items()}
            rows.append({"depth": depth, "batch": batch, "members": options.members, "device": str(device), **medians})
            ratio = medians["sequential"] / medians["together"]
            print(f"depth {depth}, batch {batch}: {medians}, together is {ratio:.2f} x as fast")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"suffixes-{device.type}.json").write_text(json.dumps(rows, indent=1) + "\n")


def network(seed: int) -> tuple[list[nn.Module], nn.Module]:
    model = build.build("resnet18", build.random_state("resnet18", 32, seed), 10, 32, head_seed=seed)
    return build.blocks(model, "resnet18", Unit.stage)


def suffix(depth: int, seed: int) -> nn.Module:
    blocks, head = network(seed)
    return nn.Sequential(*blocks[depth:], head).train()


def inputs(depth: int, batch: int) -> Tensor:
    blocks, _ = network(0)
    with torch.no_grad():
        outputs: Tensor = nn.Sequential(*blocks[:depth]).eval()(torch.randn(batch, 3, 32, 32))
    return outputs


def sequential(members: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], object]:
    def step() -> None:
        for member in members:
            loss = F.cross_entropy(member(x), y)
            torch.autograd.grad(loss, [*member.parameters()])

    return step


def together(members: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], object]:
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(skeleton, (parameters, buffers), (x,)), y)

    return lambda: vmap(grad(loss))(parameters, buffers)


if __name__ == "__main__":
    main()
