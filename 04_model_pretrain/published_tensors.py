"""A published model's tensors under our names, each read from its file when it is asked for.

    state = State(config, read_safetensors("folder"), "hf", where="folder")
    state["blocks.0.attention.query.weight"]            # read, checked, put into our order

The model that is being built keeps what it needs of a tensor, in the bits that it wants, before the
next one is read: in 32 bits there is one tensor at a time and never a model. Nothing is
half-loaded either way: names are compared before anything is read, and whoever builds a model
out of these tensors has none if one of them is wrong.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from artifacts import BadInput
from checkpoint import empty_model
from gpt import GPT, GPTConfig
from model_families import halves_from_pairs, their_name

# buffers that old files carry along and that hold nothing learned
BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", "rope_freqs.weight")


class State(Mapping):
    """Our state dict, read from their tensors one by one.

    `style` "hf" or "gguf"; `pairs`: rotary rows stand in pairs and are put into halves; `zero`:
    ends of our names that they have not, and that are zero; `dtype`: of what comes out (None: as
    it is read). BadInput names the tensor that is missing or unknown at once, the one that is of
    another shape or kind, or not finite, when it is read.
    """

    def __init__(self, config: GPTConfig, tensors: Mapping, style: str, where: str, *,
                 pairs: bool = False, zero: tuple[str, ...] = (),
                 dtype: torch.dtype | None = None) -> None:
        if config.layers > len(tensors):        # before a model of 2 billion layers is built
            raise BadInput(f"{where} announces {config.layers:,} layers and has {len(tensors):,} "
                           "tensors: the model is not whole, or its settings are another's")
        self.config, self.tensors, self.where = config, tensors, where
        self.pairs, self.dtype, self.learned = pairs, dtype, config.positions == "learned"
        self.thirds = self.learned and style == "hf"    # "Conv1D": x @ W, ours x @ W^T
        self.shapes = {name: p.shape for name, p in empty_model(config).state_dict().items()}
        self.names: dict[str, str | None] = {}          # ours -> theirs, None: zero
        for ours in self.shapes:
            name = self._theirs("embedding.weight" if config.tied and ours == "lm_head.weight"
                                else ours, style)
            self.names[ours] = None if ours.endswith(zero) and name not in tensors else name
        self._compare_names()

    def _theirs(self, ours: str, style: str) -> str:
        name = their_name(ours, style, self.learned)
        if style == "hf" and "embed_tokens.weight" in self.tensors:     # saved without its head
            return name.removeprefix("model.")
        prefix = self.learned and "transformer.wte.weight" in self.tensors
        return "transformer." + name if prefix and name != "lm_head.weight" else name

    def _compare_names(self) -> None:
        """Every one of ours found, every one of theirs used."""
        used = set(self.names.values())
        if missing := [name for name in used - {None} if name not in self.tensors]:
            raise BadInput(f"{self.where} lacks tensor {min(missing)}: the model is not whole, or "
                           "its settings are another's")
        left = sorted(name for name in set(self.tensors) - used if not name.endswith(BUFFERS)
                      and not (self.config.tied and name in ("lm_head.weight", "output.weight")))
        if left:
            raise BadInput(f"{self.where} has the unknown tensor {left[0]} ({len(left)} in all): "
                           "the model does something that this code does not compute")

    def __getitem__(self, ours: str) -> Tensor:
        shape, name = self.shapes[ours], self.names[ours]
        if name is None:
            return torch.zeros(shape, dtype=self.dtype or torch.float32)
        value = self._own_part(ours, torch.as_tensor(self.tensors[name]))
        if not value.is_floating_point():
            raise BadInput(f"{self.where}: tensor {name} is of {str(value.dtype).split('.')[-1]}: "
                           "packed weights are not read here, give the model in 16 or 32 bits")
        if value.shape != shape:
            raise BadInput(f"{self.where}: tensor {name} is {tuple(value.shape)}, the model of "
                           f"these settings has {tuple(shape)}")
        # a sum is four times as quick as looking at each, and finite only if each is
        if not torch.isfinite(value.sum(dtype=torch.float32)) and not value.isfinite().all():
            raise BadInput(f"{self.where}: tensor {name} holds numbers that are not finite")
        if self.pairs and ours.split(".")[-2] in ("query", "key"):
            value = halves_from_pairs(value, shape[0] // self.config.D)
        return value if self.dtype is None else value.to(self.dtype)

    def _own_part(self, ours: str, value: Tensor) -> Tensor:
        """GPT-2 keeps query, key and value in one matrix, Hugging Face's turned as well."""
        if self.thirds and value.dim() == 2 and ours.startswith("blocks."):
            value = value.t()
        part = next((i for i, name in enumerate(("query", "key", "value"))
                     if f"attention.{name}." in ours), None)
        rows = self.shapes[ours][0]
        if self.learned and part is not None and value.shape[0] == 3 * rows:
            value = value[part * rows:(part + 1) * rows]
        return value

    def __contains__(self, name: object) -> bool:       # Mapping's own would read the tensor
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def model_of(state: State) -> GPT:
    """The GPT that holds exactly these tensors, in eval mode, without copying them."""
    model, tied = empty_model(state.config), state.config.tied
    read = {name: state[name] for name in state if not (tied and name == "lm_head.weight")}
    if tied:
        read["lm_head.weight"] = read["embedding.weight"]
    model.load_state_dict(read, assign=True)
    if tied:
        model.lm_head.weight = model.embedding.weight
    return model.eval()
