"""Let a model in bf16 launch its kernels on a card that isn't here: all but the last step, in which the card would run.

    python tests/elimination/card/binding.py

Says as JSON how many different programs each kernel was compiled to, after batches of several sizes. Only with Triton's
own compiler, and not in its interpreter.
"""

import itertools
import json
import sys
from collections import defaultdict

import torch
from transformers import BertConfig, BertForSequenceClassification
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

import wordelim
from wordelim.elimination.significance import to_text
from wordelim.graph.card import OnACard

BATCHES = ([30, 12], [100, 3, 5], [17])


class Card:
    """What Triton asks of a driver before it launches."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0


def main():
    driver.set_active(Card())
    programs, run = defaultdict(set), jit.JITFunction.run

    def compiled(self, *args, grid, warmup, **options):
        program = run(self, *args, grid=grid, warmup=True, **options)
        programs[self.__name__].add(id(program))
        return program

    jit.JITFunction.run = compiled
    sizes = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 256}
    model = BertForSequenceClassification(BertConfig(vocab_size=100, **sizes)).eval()
    keep = [0.7, 0.5, 0.5, 0.0]
    wordelim.eliminate_(model, wordelim.Retention.fractions(keep)).to(torch.bfloat16)
    OnACard.is_card = staticmethod(lambda device: True)
    OnACard.capture = None
    maps = tuple(map(to_text, torch.randn(4, 128)))
    for package, significance in itertools.product((False, True), ("attention", maps)):
        wordelim.eliminate_(model, wordelim.Retention.fractions(keep, package=package, significance=significance))
        for lengths in BATCHES:
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            with torch.no_grad():
                model(input_ids=torch.zeros_like(mask, dtype=torch.long), attention_mask=mask.long())
    sys.stdout.write(json.dumps({name: len(found) for name, found in programs.items()}) + "\n")


if __name__ == "__main__":
    main()
