"""Compile the attention kernels for a GPU that is not there, and read what they will need.

    python 07_systems/ahead_of_time.py          # all kernels, about 10 s; no GPU, no driver
    python 07_systems/ahead_of_time.py --rung 4 # the warp-specialised one (Triton 3.9), about 30 s

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

from artifacts import CommandLine, BadInput, command, within

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
    """All three kernels of rung 3 at the shipped tiles."""
    return in_a_child("t.compile_one(getattr(a, which + '_kernel'), which, head, causal) "
                      f"for head in {heads!r} for causal in {masks!r} for which in a.TILES")


def compile_rung_4(head: int, causal: bool = True, keys: int = 128) -> dict:
    """Compile the warp-specialised kernel for sm_90; what it needs, and who is in it: threads of
    the whole program, and the registers a thread of each part, most first."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    import specialised_attention as rung_4
    rows = {"Q": rung_4.ROWS.value, "K": keys, "V": keys, "O": rung_4.ROWS.value}
    types = {name: f"tensordesc<bf16[1,{n},{head}],{rung_4.layout_of(n, head)!r}>"
             for name, n in rows.items()} | {"LSE": "*fp32"}
    constants = {"CAUSAL": causal, "D": head, "N": keys}
    for name in rung_4.specialised_kernel.arg_names[5:]:
        types[name] = ("constexpr" if name in constants else "fp32" if "scale" in name else "i32")
    source = GluonASTSource(rung_4.specialised_kernel, types, constants,
                            {(4,): [["tt.divisibility", 16]]})
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32),
                          options={"num_warps": 4, "maxnreg": 168})
    usage, ptx = resources(made.asm["cubin"]), made.asm["ptx"]
    parts = {int(n) for n in re.findall(r"setmaxnreg\S+\s+(\d+);", ptx)}
    return {"head": head, "causal": causal, "threads": int(re.search(r"\.reqntid (\d+)", ptx)[1]),
            "registers": usage["REG"], "stack": usage["STACK"], "shared": made.metadata.shared,
            "parts": sorted(parts, reverse=True), "wgmma": ptx.count("wgmma.mma_async"),
            "tma": ptx.count("cp.async.bulk.tensor"),
            "waits": ptx.count("mbarrier.try_wait"), "arrivals": ptx.count("mbarrier.arrive")}


def lacks_gluon() -> str:
    """Why rung 4 cannot be compiled here, or "" if it can."""
    try:
        from triton.experimental.gluon.language.nvidia.hopper import tma
    except ImportError as why:
        return f"no Gluon in this Triton: {why}"
    return "" if hasattr(tma, "async_load") else "Gluon of another form: Triton 3.9 is needed"


def in_a_child(calls: str) -> list[dict]:
    """The values of some calls of this module (Python text), computed in a process of their own:
    where kernels have been made for the interpreter, they cannot be compiled any more."""
    code = ("import json, attention_kernels as a, ahead_of_time as t\n"
            f"print(json.dumps([{calls}]))")
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        **os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(paths)})
    if done.returncode:
        raise BadInput("the kernels do not compile here: " + next(
            (line for line in done.stderr.splitlines() if "Error" in line), done.stderr[-200:]))
    return json.loads(next(x for x in done.stdout.splitlines() if x.startswith("[")))


def main() -> None:
    """Print the table."""
    parser = CommandLine(__doc__)
    parser.add_argument("--heads", type=within(int, low=1), nargs="+",
                        default=list(HEADS), help="head sizes")
    parser.add_argument("--full", action="store_true", help="without the causal mask")
    parser.add_argument("--rung", type=int, choices=(3, 4), default=3, help="of the ladder")
    args = parser.parse_args()
    if args.rung == 4:
        if why := lacks_gluon():
            raise BadInput(why)
        heads = [head for head in args.heads if head >= 64]
        print("head threads registers of the parts  spilled  shared  wgmma  TMA  waits  arrivals")
        for row in in_a_child(", ".join(f"t.compile_rung_4({h}, {not args.full})" for h in heads)):
            print(f"{row['head']:4d}{row['threads']:8d}   {str(row['parts']):23s}{row['stack']:6d}"
                  f"{row['shared'] / 1024:6.0f} KB{row['wgmma']:6d}{row['tma']:5d}{row['waits']:7d}"
                  f"{row['arrivals']:10d}")
        return
    print("kernel   head     tile  warps stages registers spilled  shared  programs  wgmma  TMA")
    for row in compile_all(tuple(args.heads), (not args.full,)):
        print(f"{row['kernel']:8s}{row['head']:5d}{row['tile'][0]:6d}x{row['tile'][1]:<4d}"
              f"{row['warps']:4d}{row['stages']:7d}{row['registers']:10d}{row['stack']:8d}"
              f"{row['shared'] / 1024:6.0f} KB{row['programs']:8d}{row['wgmma']:9d}{row['tma']:5d}")


if __name__ == "__main__":
    command(main)
