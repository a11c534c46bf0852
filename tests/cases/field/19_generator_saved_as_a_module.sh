#!/bin/bash
# A generator that the user tuned, saved as a whole module: refused, with a way out for its author.
source "$(dirname "$0")/../lib.sh"

mkdir training && touch training/__init__.py
cat > training/networks.py <<'P'
import torch


class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
P
python -c "
import sys
sys.path.insert(0, '.')
import torch
from training.networks import Generator
torch.save(Generator(), 'tuned.pt')"
rm -r training
refused 6 60 restyle inspect tuned.pt
! grep -q 'from its authors' out.txt || wrong "no advice to ask the authors, for the user is its author" "$said"
exit $failed
