"""Compile the attention kernels for a GPU that is not there, and read what they will need.

    python 07_systems/ahead_of_time.py          # all kernels, about 10 s; no GPU, no driver

For every kernel and head size as shipped: registers a thread, bytes spilled to the stack, shared
memory, how many programs one processor can hold at a time, and the instructions of the tensor
cores (wgmma) and of the tile mover (TMA). What the interpreter cannot prove, this can; speed,
neither. Target: sm_90 (H100, H200), bf16.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from artifacts import CommandLine, BadInput, command

SHARED_MEMORY = 227 * 1024          # bytes that one program may have on sm_90
PROCESSOR = {"registers": 65_536, "shared": 228 * 1024, "warps": 64}    # what its programs share
HEADS = (16, 32, 64, 128)           # every size that the kernels know; others are padded


def signature(kernel, options: dict) -> dict[str, str]:
    """Types of a kernel's arguments for bf16 inputs: LSE and DELTA are pointers, `scale`s fp32,
    the other capitals descriptors of tiles with M rows (queries) or N (keys)."""
    types = {}
    for name in kernel.arg_names:
        if name in options:
            types[name] = "constexpr"
        elif name in ("LSE", "DELTA"):
            types[name] = "*fp32"
        elif name.isupper() and name not in ("H", "G", "T", "S"):
            rows = options["N" if name[-1] in "KV" else "M"]
            types[name] = f"tensordesc<bf16[1,1,{rows},{options['BLOCK_D']}]>"
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
    launch = {key: options.pop(key) for key in ("num_warps", "num_stages", "maxnreg")
              if key in options}
    types = signature(kernel, options)
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values())
               if kind.startswith("*")}
    source = ASTSource(kernel, types, constexprs=options, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=launch)
    usage, ptx = resources(made.asm["cubin"]), made.asm["ptx"]
    return {"kernel": which, "head": head, "causal": causal, "tile": [options["M"], options["N"]],
            "warps": launch["num_warps"], "stages": launch["num_stages"],
            "registers": usage["REG"], "stack": usage["STACK"], "shared": made.metadata.shared,
            "programs": programs(usage["REG"], made.metadata.shared, launch["num_warps"]),
            "wgmma": ptx.count("wgmma.mma_async"), "tma": ptx.count("cp.async.bulk.tensor")}


def programs(registers: int, shared: int, warps: int) -> int:
    """How many programs fit on one processor together. Registers are given out in eights to each
    thread; a kilobyte of shared memory goes to the system for each program."""
    return min(PROCESSOR["registers"] // (-(-registers // 8) * 8 * 32 * warps),
               PROCESSOR["shared"] // (shared + 1024), PROCESSOR["warps"] // warps)


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


def compile_all(heads: tuple[int, ...] = HEADS, masks: tuple[bool, ...] = (True,)) -> list[dict]:
    """All three kernels at the shipped tiles, in a child process of their own: where kernels have
    been made for the interpreter, they cannot be compiled any more."""
    code = ("import json, attention_kernels as a, ahead_of_time as t\n"
            "print(json.dumps([t.compile_one(getattr(a, which + '_kernel'), which, head, causal) "
            f"for head in {heads!r} for causal in {masks!r} for which in a.TILES]))")
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        **os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(paths)})
    if done.returncode:
        raise BadInput("the kernels do not compile here: " + done.stderr.strip().split("\n")[-1])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = CommandLine(__doc__)
    parser.add_argument("--heads", type=int, nargs="+", default=list(HEADS), help="head sizes")
    parser.add_argument("--full", action="store_true", help="without the causal mask")
    args = parser.parse_args()
    print("kernel   head     tile  warps stages registers spilled  shared  programs  wgmma  TMA")
    for row in compile_all(tuple(args.heads), (not args.full,)):
        print(f"{row['kernel']:8s}{row['head']:5d}{row['tile'][0]:6d}x{row['tile'][1]:<4d}"
              f"{row['warps']:4d}{row['stages']:7d}{row['registers']:10d}{row['stack']:8d}"
              f"{row['shared'] / 1024:6.0f} KB{row['programs']:8d}{row['wgmma']:9d}{row['tma']:5d}")


if __name__ == "__main__":
    command(main)
