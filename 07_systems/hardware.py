"""What the numbers were measured on: hardware and versions, kept beside every measurement."""

import platform

import torch


def hardware() -> dict:
    """The GPU (None without), the processor, and the versions that decide about speed."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    try:
        import triton
        version = triton.__version__
    except ImportError:                     # Triton has wheels for Linux only
        version = None
    return {"gpu": gpu, "gpu_bytes": torch.cuda.get_device_properties(0).total_memory if gpu else 0,
            "cpu": platform.processor() or platform.machine(), "cuda": torch.version.cuda,
            "python": platform.python_version(), "torch": torch.__version__, "triton": version,
            "threads": torch.get_num_threads()}
