"""Times the epochs of a plain SASRec that torch.compile has compiled.

The last block computes the query of the newest position alone. Histories lie in memory and come in
a new order in every epoch. It runs in an environment of its own (see `make bench`) and imports
nothing of this project. benchmarks/peers.py calls it.
"""

import argparse
import json
import pathlib
import sysconfig
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._inductor import config, cpp_builder, exc
from torch.utils.flop_counter import FlopCounterMode

PAD = 0


class Block(nn.Module):
    """A pre-norm block of causal attention and two dense layers, with an optional single query."""

    def __init__(self, width: int, inner: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, last: Tensor | None = None) -> Tensor:
        """Maps x [B, L, D] to [B, L, D], or to [B, 1, D]: the positions `last` [B] alone."""
        y = self.norm(x)
        keys, values = map(self.split, self.keys_values(y).chunk(2, -1))
        mask = None
        if last is not None:
            mask = (torch.arange(x.shape[1]) <= last[:, None])[:, None, None]
            users = torch.arange(len(x))
            x, y = x[users, last][:, None], y[users, last][:, None]
        rate = self.rate if self.training else 0.0
        y = F.scaled_dot_product_attention(
            self.split(self.queries(y)), keys, values, mask, rate, is_causal=last is None
        )
        x = x + self.dropped(self.out(y.transpose(1, 2).flatten(2)))
        return x + self.dropped(self.outer(F.gelu(self.inner(self.inner_norm(x)))))

    def split(self, x: Tensor) -> Tensor:
        """Splits [B, N, D] into heads, [B, H, N, d]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def dropped(self, x: Tensor) -> Tensor:
        """Applies dropout."""
        return F.dropout(x, self.rate, self.training)


class SASRec(nn.Module):
    """SASRec with the cross-entropy of the next item over all items, at the last position."""

    def __init__(
        self,
        items: int,
        length: int,
        width: int,
        inner: int,
        blocks: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rate = dropout
        self.items, self.positions = nn.Embedding(items + 1, width), nn.Embedding(length, width)
        for table in (self.items, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, inner, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, history: Tensor, target: Tensor) -> Tensor:
        """Returns the mean loss of histories [B, L], padded on the right, and targets [B]."""
        last = (history != PAD).sum(1) - 1
        x = self.items(history) + self.positions.weight
        x = F.dropout(x, self.rate, self.training)
        *lower, top = self.blocks
        for block in lower:
            x = block(x)
        state = self.norm(top(x, last))[:, 0]
        return F.cross_entropy(state @ self.items.weight.T, target)


def missing() -> str | None:
    """Returns what torch.compile needs and this machine lacks; None if it has everything."""
    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return "a C++ compiler: install g++, or name one by CXX"
    if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's C headers: install python3-dev"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Folder of histories.npy, [users, L + 1].")
    parser.add_argument("settings", help="Arguments of SASRec but items, and batch, as JSON.")
    parser.add_argument("--epochs", type=int, default=8, help="Number of epochs.")
    arguments = parser.parse_args()
    if lack := missing():
        print(json.dumps({"missing": lack}))
        return
    settings = json.loads(arguments.settings)
    batch = settings.pop("batch")
    rows = np.load(pathlib.Path(arguments.folder) / "histories.npy")
    items, ids = np.unique(rows, return_inverse=True)
    rows = torch.from_numpy(ids.reshape(rows.shape)) + PAD + 1
    # The generator of plain PyTorch is faster on a CPU than that of compiled code.
    config.fallback_random = True
    torch.manual_seed(0)
    model = SASRec(len(items), **settings)
    first = rows[:batch]
    with FlopCounterMode(display=False) as counter:
        model(first[:, :-1], first[:, -1]).backward()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loss_of = torch.compile(model, dynamic=False)
    seconds, losses = [], []
    for _ in range(arguments.epochs):
        start, total = time.perf_counter(), torch.zeros(())
        for users in torch.randperm(len(rows)).split(batch):
            chosen = rows[users]
            optimizer.zero_grad()
            loss = loss_of(chosen[:, :-1], chosen[:, -1])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(users)
        losses.append(total.item() / len(rows))
        seconds.append(time.perf_counter() - start)
    figures = {
        "seconds": seconds,
        "users": len(rows),
        "version": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "flops_of_an_example": counter.get_total_flops() / len(first),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
