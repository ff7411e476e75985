"""DPO: the preference without the reward model, by plain supervised learning on pairs.

    python 05_posttrain/dpo.py            # about 40 seconds; --quick about 4; --beta 0.1

The optimal policy of "maximise reward minus beta KL" determines its own reward, up to a constant
per prompt: beta (log pi(y|x) - log pi_ref(y|x)). Put that reward into Bradley-Terry, and the
reward model is gone. Rafailov et al. 2023 (arXiv 2305.18290). With label smoothing it is cDPO,
with a squared loss IPO (Azar et al., 2310.12036), per token the length-normalised kind.

Reads sft.pt and preferences.jsonl; writes dpo.pt, dpo_log.jsonl and dpo_result.json.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("sigmoid", "ipo", "robust", "hinge")


def dpo_loss(policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor,
             reference_rejected: Tensor, beta: float, kind: str = "sigmoid",
             label_smoothing: float = 0.0) -> Tensor:
    """Summed log-probabilities of B pairs, each (B,) -> the loss of every pair, (B,).

    With h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected):

        sigmoid   -log s(beta h); with label smoothing e (cDPO):
                  -(1 - e) log s(beta h) - e log s(-beta h)
        robust    (-(1 - e) log s(beta h) + e log s(-beta h)) / (1 - 2 e)    Chowdhury et al. 2024
        ipo       (h - 1 / (2 beta))^2
        hinge     max(0, 1 - beta h)

    s is the logistic function. The arguments are SUMS over the tokens of an answer. For the
    length-normalised kind divide each by its answer's number of tokens first (beta then grows by
    about that factor). When policy and reference are the same model, the sigmoid loss is ln 2.
    beta 0.1, policy (-10, -12), reference (-11, -11.5) -> sigmoid 0.620957, ipo 12.25, hinge 0.85.
    Raises ValueError for another kind. Finite for any finite input.
    """
    # How much more the policy prefers the chosen answer than the reference does.
    h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    # log s(x), never log of a rounded 0.
    right, wrong = F.logsigmoid(beta * h), F.logsigmoid(-beta * h)
    e = label_smoothing
    if kind == "sigmoid":
        return -(1 - e) * right - e * wrong
    if kind == "robust":
        return (-(1 - e) * right + e * wrong) / (1 - 2 * e)
    # A margin of exactly 1 / (2 beta) is enough: no reward for pushing on for ever.
    if kind == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if kind == "hinge":
        return torch.relu(1 - beta * h)
    raise ValueError(f"kind {kind!r} is not one of {KINDS}")


def implicit_rewards(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The reward that the policy behaves as if it had: beta (log pi - log pi_ref), (B,).

    `implicit_rewards(-10, -11, 0.1)` is 0.1. A constant for reporting; no gradient.
    """
    return beta * (policy - reference).detach()
