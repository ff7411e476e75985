"""The rival: a recurrent language model that trains in the same loop as the GPT.

    from lstm import LSTM, LSTMConfig
    logits, loss = LSTM(LSTMConfig(vocab_size=256, width=112))(ids, targets)

One embedding, one or more LSTM layers, one output matrix; the same call as chapter 4's GPT, so
that every other line of the comparison is equal. But: no dropout and no truncated state carried
from row to row; each row starts from an empty memory, as the GPT's does.

Letters: B batch, T time, C width (embedding and state alike), V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LSTMConfig:
    """The shape of an LSTM language model."""
    vocab_size: int = 256
    sequence_length: int = 256
    layers: int = 1
    width: int = 128


def lstm_cell(x: Tensor, h: Tensor, c: Tensor, weight_x: Tensor, weight_h: Tensor, bias: Tensor
              ) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: the slow clear version that `nn.LSTM` is tested against.

    x (B, C_in), state h and memory c (B, C), weight_x (4 C, C_in), weight_h (4 C, C), bias (4 C,)
    -> (h, c). The four blocks of rows are the gates input i, forget f, candidate g, output o:
    c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c').
    With zero weights, zero bias and memory 1: c' = 0.5, h' = 0.5 tanh(0.5) = 0.231. Gradients
    reach all six arguments.
    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    # All four gates see the same two inputs, so one product each is enough: (B, 4 C).
    gates = x @ weight_x.T + h @ weight_h.T + bias
    i, f, g, o = gates.chunk(4, dim=-1)
    # Forget a share of the old memory, then add a share of the new candidate.
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def parameters_of(config: LSTMConfig) -> dict[str, int]:
    """{"non_embedding", "total"}: each layer has 4 C (2 C) weights and 8 C biases (torch has two).

    The output matrix and its table count as embeddings, as for the GPT.
    """
    C, V = config.width, config.vocab_size
    layers = config.layers * (8 * C * C + 8 * C)
    return {"non_embedding": layers, "total": layers + 2 * V * C}


def lstm_flops(config: LSTMConfig, tokens: int) -> float:
    """Training FLOPs on `tokens`: 6 per weight of every product, head included, table not."""
    C = config.width
    return 6.0 * (config.layers * 8 * C * C + config.vocab_size * C) * tokens


class LSTM(nn.Module):
    """forward(ids, targets=None) -> (logits (B, T, V), mean loss in nats or None)."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        C, V = config.width, config.vocab_size
        self.embedding = nn.Embedding(V, C)
        self.lstm = nn.LSTM(C, C, config.layers, batch_first=True)
        self.lm_head = nn.Linear(C, V, bias=False)
        with torch.no_grad():
            self.embedding.weight.normal_(std=0.5)
            self.lm_head.weight.normal_(std=0.1 * C ** -0.5)    # first loss close to ln V
            for name, p in self.lstm.named_parameters():
                if "bias" in name:      # remember at first: forget gates start open (Gers 2000)
                    p.zero_()
                    p[C:2 * C] = 0.5
                else:
                    p.normal_(std=C ** -0.5)

    def forward(self, ids: Tensor, targets: Tensor | None = None
                ) -> tuple[Tensor, Tensor | None]:
        logits = self.lm_head(self.lstm(self.embedding(ids))[0])
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(),
                                       ignore_index=-100)
