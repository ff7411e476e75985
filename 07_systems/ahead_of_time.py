"""Compile the attention kernels for a GPU that is not there, and read what they will need.

    python 07_systems/ahead_of_time.py          # all kernels, about 15 s; no GPU, no driver

For every kernel and head size as shipped: registers a thread, bytes spilled to the stack, shared
memory, and whether the tensor cores are used (wgmma). What the interpreter cannot prove, this
can; speed, neither. Target: sm_90 (H100, H200), bf16, causal.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from artifacts import BadInput, command

SHARED_MEMORY = 227 * 1024          # bytes that one block may have on sm_90


def signature(kernel, options: dict) -> dict[str, str]:
    """Types of a kernel's arguments for bf16 inputs: capitals are pointers, `scale`s are fp32."""
    types = {}
    for name in kernel.arg_names:
        if name in options:
            types[name] = "constexpr"
        elif name in ("LSE", "DELTA"):
            types[name] = "*fp32"
        elif name.isupper() and name not in ("H", "G", "T", "S"):
            types[name] = "*bf16"
        else:
            types[name] = "fp32" if "scale" in name else "i32"
    return types


def compile_one(kernel, which: str, head: int, causal: bool = True) -> dict:
    """Compile one kernel for sm_90 at its shipped tiles; what it needs, as plain numbers."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    import attention_kernels
    options = attention_kernels.settings(which, head, torch.bfloat16, causal)
    launch = {key: options.pop(key) for key in ("num_warps", "num_stages")}
    types = signature(kernel, options)
    # Pointers and strides are multiples of 16, as torch's tensors of these head sizes are.
    aligned = {(i,): [["tt.divisibility", 16]] for i, (name, kind) in enumerate(types.items())
               if kind.startswith("*") or re.fullmatch("[qkvogd][bht]", name)}
    source = ASTSource(kernel, types, constexprs=options, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=launch)
    usage = resources(made.asm["cubin"])
    return {"kernel": which, "head": head, "tile": [options["M"], options["N"]], **launch,
            "registers": usage["REG"], "stack": usage["STACK"], "shared": made.metadata.shared,
            "wgmma": made.asm["ptx"].count("wgmma.mma_async")}


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and stack bytes of a compiled kernel, by the tool that Triton carries."""
    import triton
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True,
                              check=True).stdout
    return {key: int(re.search(rf"\b{key}:(\d+)", text).group(1)) for key in ("REG", "STACK")}


def compile_all(heads: tuple[int, ...] = (64, 128)) -> list[dict]:
    """All three kernels at the shipped tiles, in a child process of their own: where kernels have
    been made for the interpreter, they cannot be compiled any more."""
    code = ("import json, attention_kernels as a, ahead_of_time as t\n"
            "print(json.dumps([t.compile_one(getattr(a, which + '_kernel'), which, head) "
            f"for head in {heads!r} for which in a.TILES]))")
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        **os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(paths)})
    if done.returncode:
        raise BadInput("the kernels do not compile here: " + done.stderr.strip().split("\n")[-1])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--heads", type=int, nargs="+", default=[64, 128], help="head sizes")
    args = parser.parse_args()
    print("kernel    head      tile  warps stages  registers  spilled  shared KB  wgmma")
    for row in compile_all(tuple(args.heads)):
        print(f"{row['kernel']:9s}{row['head']:5d}{row['tile'][0]:6d}x{row['tile'][1]:<4d}"
              f"{row['num_warps']:5d}{row['num_stages']:7d}{row['registers']:11d}"
              f"{row['stack']:9d}{row['shared'] / 1024:11.0f}{row['wgmma']:7d}")


if __name__ == "__main__":
    command(main)
