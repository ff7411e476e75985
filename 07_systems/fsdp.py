"""ZeRO-3: a rank owns 1/N of every weight, and borrows a layer's others while it computes it.

    model = FSDP(GPT(config), compute_dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)      # its parameters are pieces
    loss.backward(); model.finish_gradient_synchronization(); optimizer.step()

Around every module that owns parameters: gather before forward, free after; gather again before
backward; when its gradients are complete, reduce-scatter them and free everything. Traffic is
3 P (N-1)/N elements a step instead of 2 P (N-1)/N: the price of the second gathering. But: it
waits for each gathering instead of prefetching the next layer's. Real runs: fully_shard.

Source: Rajbhandari et al. 2020 (ZeRO), section 5.3; Zhao et al. 2023 (FSDP).
"""

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collectives import all_gather, reduce_scatter
from ddp import start_equal
from pieces import pack, piece_length, unpack


class Shard:
    """The parameters that a set of modules owns together: pieces always, the whole on loan.

    `piece` is this rank's part, an fp32 parameter for the optimizer. `whole` are the tensors
    that the modules compute with; between uses their storage has size zero.
    """

    def __init__(self, owners: list[tuple[nn.Module, str]], parameters: list[nn.Parameter],
                 compute_dtype: torch.dtype | None, group) -> None:
        self.group, self.ranks = group, dist.get_world_size(group)
        self.shapes = [p.shape for p in parameters]
        self.lengths = [piece_length(p, self.ranks) for p in parameters]
        row = pack([p.detach() for p in parameters], self.ranks)[dist.get_rank(group)]
        self.piece = nn.Parameter(row.clone(), parameters[0].requires_grad)
        self.dtype = compute_dtype or row.dtype
        self.users = 0                      # forward or backward passes that need the whole now
        self.whole = [torch.empty(p.shape, dtype=self.dtype, device=p.device)
                      .requires_grad_(p.requires_grad) for p in parameters]
        self.ready, self.listening = 0, False
        for tensor in self.whole:
            tensor.untyped_storage().resize_(0)
        self.follow()
        # The modules see plain tensors under the old names; the optimizer sees only the piece.
        for module, name in owners:
            index = next(i for i, p in enumerate(parameters) if p is module._parameters[name])
            del module._parameters[name]
            setattr(module, name, self.whole[index])

    def follow(self) -> None:
        """The whole weights are frozen, or unfrozen, as the piece is now."""
        trained = self.piece.requires_grad
        for tensor in self.whole if self.whole[0].requires_grad != trained else ():
            tensor.requires_grad_(trained)
        if trained and not self.listening:
            self.listening = True
            for tensor in self.whole:
                tensor.register_post_accumulate_grad_hook(self.on_gradient)

    @torch.no_grad()
    def gathered(self) -> list[Tensor]:
        """All parameters of the shard, whole, as new tensors in the compute dtype."""
        packed = all_gather(self.piece.detach().to(self.dtype)[None], self.group)
        return unpack(packed, self.shapes)

    @torch.no_grad()
    def borrow(self) -> None:
        """Make the whole weights usable; the first user pays for the gathering."""
        self.users += 1
        if self.users > 1:
            return
        for tensor, value in zip(self.whole, self.gathered()):
            # .data: the weights that autograd has noted are the same ones, only back in memory.
            tensor.untyped_storage().resize_(tensor.numel() * tensor.element_size())
            tensor.data.copy_(value)

    def give_back(self) -> None:
        """One user less; the last one frees the memory."""
        self.users = max(0, self.users - 1)
        if not self.users:
            for tensor in self.whole:
                tensor.untyped_storage().resize_(0)

    def on_gradient(self, tensor: Tensor) -> None:
        """Autograd: one more gradient is complete. After the last one, exchange them."""
        self.ready += 1
        if self.ready == len(self.whole):
            self.exchange()

    def forget(self) -> None:
        """No gradient has arrived, and nobody uses the whole weights."""
        for tensor in self.whole:
            tensor.grad = None
        self.ready = self.users = 0
        self.give_back()

    @torch.no_grad()
    def exchange(self) -> None:
        """Sum the gradients over ranks, in fp32, keep the mean of the own piece, free the rest."""
        grads = [torch.zeros(t.shape, dtype=self.piece.dtype, device=t.device)
                 if t.grad is None else t.grad.to(self.piece.dtype) for t in self.whole]
        share = reduce_scatter(pack(grads, self.ranks), self.group)[0] / self.ranks
        self.piece.grad = share if self.piece.grad is None else self.piece.grad + share
        self.forget()


def find_shards(module: nn.Module) -> list[tuple[list[tuple[nn.Module, str]], list]]:
    """Parameters grouped by the set of modules that own them: (owners, parameters) each.

    A tied weight belongs to several modules, and must be whole while any of them computes.
    Trained and frozen parameters never share a group.
    """
    owners: dict[nn.Parameter, list] = {}
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                owners.setdefault(p, []).append((part, name))
    groups: dict[tuple, tuple[list, list]] = {}
    for p, owned in owners.items():
        key = (p.requires_grad, p.dtype, *(id(part) for part, _ in owned))
        places, parameters = groups.setdefault(key, ([], []))
        places.extend(owned)
        parameters.append(p)
    return list(groups.values())


class FSDP(nn.Module):
    """Wrap a module so that each rank keeps 1/N of its weights, gradients and optimizer states.

    `compute_dtype`: weights travel and compute in it (bf16: half the traffic); pieces, gradients
    and optimizer states stay in fp32. `parameters()` are the pieces.
    """

    def __init__(self, module: nn.Module, compute_dtype: torch.dtype | None = None,
                 group=None) -> None:
        super().__init__()
        start_equal(module, group)
        self.names = {name: None for name, _ in module.named_parameters(remove_duplicate=False)}
        self.places = {name: module.get_parameter(name) for name in self.names}
        self.compute_dtype, self.group = compute_dtype, group
        self.shards, numbers = [], {}
        for owners, parameters in find_shards(module):
            shard = Shard(owners, parameters, compute_dtype, group)
            for index, p in enumerate(parameters):
                numbers[p] = (len(self.shards), index)
            self.shards.append(shard)
            for part in {id(part): part for part, _ in owners}.values():
                part.register_forward_pre_hook(partial(self.before_forward, shard))
                part.register_forward_hook(partial(self.after_forward, shard))
        self.running = False            # in the middle of a backward pass
        self.names = {name: numbers[p] for name, p in self.places.items()}
        del self.places
        self.module = module
        self.pieces = nn.ParameterList(shard.piece for shard in self.shards)

    def before_forward(self, shard: Shard, part: nn.Module, inputs: tuple) -> tuple:
        """Borrow the weights, and bring the inputs to their dtype."""
        shard.follow()
        shard.borrow()
        return tuple(x.to(shard.dtype) if torch.is_tensor(x) and x.is_floating_point()
                     and self.compute_dtype else x for x in inputs)

    def after_forward(self, shard: Shard, part: nn.Module, inputs: tuple, result) -> None:
        """Free the weights, until backward arrives at what this module gave."""
        shard.give_back()
        for tensor in result if isinstance(result, tuple) else (result,):
            if torch.is_tensor(tensor) and tensor.requires_grad:
                tensor.register_hook(partial(self.before_backward, shard))

    def before_backward(self, shard: Shard, gradient: Tensor) -> None:
        """Borrow the weights again: the gradient has reached the module's output."""
        if not self.running:    # the first of this backward: autograd shall call us at its end
            self.running = True
            torch.autograd.Variable._execution_engine.queue_callback(
                self.finish_gradient_synchronization)
        if not shard.users:
            shard.borrow()

    def finish_gradient_synchronization(self) -> None:
        """Exchange what is incomplete (unused parameters), free what is left. Backward ends with
        it by itself, so that a step may be left out; calling it again changes nothing."""
        self.running = False
        for shard in self.shards:
            if shard.ready:
                shard.exchange()
            shard.users = 0
            shard.give_back()

    def gather_full_params(self) -> dict[str, Tensor]:
        """The whole parameters by their plain names, in the pieces' precision, on every rank.

        A collective: all ranks must call it. Tied weights appear under each of their names.
        """
        whole = []
        for shard in self.shards:
            packed = all_gather(shard.piece.detach()[None], shard.group)
            whole.append(unpack(packed, shard.shapes))
        return {name: whole[number][index] for name, (number, index) in self.names.items()}

    def forward(self, *args, **kwargs):
        if self.running:        # the last backward broke off with an error: forget it
            self.running = False
            for shard in self.shards:
                shard.forget()
        return self.module(*args, **kwargs)
