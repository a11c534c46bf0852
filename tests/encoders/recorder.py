"""An encoder for tests that look at what the loop asks and adds."""

from torch import nn


class Recorder(nn.Module):
    """Answers every question with the same deltas, and keeps the questions."""

    def __init__(self, deltas):
        super().__init__()
        self.deltas, self.seen = deltas, []

    def forward(self, x):
        self.seen.append(x)
        return self.deltas.expand(len(x), -1, -1)
