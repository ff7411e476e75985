"""Inside a graded run: writes stay at home, the reference is not read, judges stay what they were.

tests/conftest.py calls this before any code under test is imported. On Linux the kernel itself
refuses (Landlock): C++ code such as torch.save or sqlite3 is fenced too. Elsewhere Python's audit
events do it, which C++ code does not raise. Against accidents and curiosity: the sandbox is your
platform's container.
"""

import ctypes
import os
import platform
import struct
import sys
from operator import is_
from pathlib import Path

WRITE, READ = 0x7FF2, 0x4       # Landlock's bits: all that changes files (ABI 3), and reading one


def kernel_fence(inside: list[str], hidden: str, keep: list[str]) -> bool:
    """Ask the kernel to refuse, for this process and its children, to change a file outside
    `inside` and to read one below `hidden`, `keep` excepted. False where it cannot."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(444, None, 0, 1) < 3:
        return False
    ruleset = call(444, struct.pack("Q", WRITE | READ), 8, 0)
    rules = [(path, WRITE | READ) for path in inside] + [(path, READ) for path in keep]
    if Path(hidden).is_dir():           # everything may be read but what lies below `hidden`
        place = Path(hidden)
        rules += [(str(p), READ) for above in place.parents for p in above.iterdir()
                  if p != place and p not in place.parents and not p.is_symlink()]
    else:
        rules.append(("/", READ))
    for path, access in rules:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            access &= 0x4006            # a file: write, read, truncate
        call(445, ruleset, 1, struct.pack("=Qi", access, handle), 0)
        os.close(handle)
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)         # no new privileges: the kernel's condition
    done = call(446, ruleset, 0) == 0
    os.close(ruleset)
    return done


def fence(inside, hidden, graded):
    """While strangers' code is graded: writes stay `inside`, `hidden` is not read, and the files
    `graded` (joined by os.pathsep) start no process and open no connection."""
    inside, hidden = [os.path.realpath(inside), "/dev"], os.path.realpath(hidden or "/nowhere")
    environment = os.path.realpath(sys.prefix)
    graded = {os.path.realpath(path) for path in filter(None, (graded or "").split(os.pathsep))}
    outside = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn",
               "os.spawn", "os.kill", "socket.connect", "ctypes.dlopen"}
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    changes = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1, "os.chmod": 1,
               "shutil.rmtree": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2,
               "sqlite3.connect": 1}

    def below(path, *roots):
        path = os.path.realpath(os.fsdecode(path))
        return any(path == root or path.startswith(root + os.sep) for root in roots)

    def guard(event, args):
        paths = args[:changes.get(event, event == "open")]
        for path in [p for p in paths if isinstance(p, (str, bytes, os.PathLike))]:
            if event != "open" or (args[2] or 0) & writing:
                if not below(path, *inside) and path != ":memory:":
                    raise PermissionError(f"the grader does not let {path!r} be changed ({event})")
            elif below(path, hidden) and not below(path, environment):
                raise PermissionError(f"the grader does not let {path!r} be read")
        refused = event in ("os.system", "os.killpg") or event == "os.kill" and args[0] in (
            os.getppid(), -1, 0, 1)
        frame = sys._getframe(1) if graded and event in outside else None
        while frame and not refused and "importlib" not in frame.f_code.co_filename:
            refused, frame = frame.f_code.co_filename in graded, frame.f_back   # imports may
        if refused:
            raise PermissionError(f"the grader does not allow {event}")

    kernel_fence(inside, hidden, [environment])
    sys.addaudithook(guard)


def look_at_judges():
    """[(place, module or class, what it holds now)] of what tests judge with."""
    places = [(name, sys.modules[name]) for name in (
        "builtins", "math", "operator", "pytest", "numpy", "numpy.testing", "torch",
        "torch.testing", "torch.nn.functional") if name in sys.modules]
    if "torch" in sys.modules:          # of a class, what it inherits as well
        places += [("torch.Tensor", base) for base in sys.modules["torch"].Tensor.__mro__]
    return [(place, owner, dict(vars(owner))) for place, owner in places]


def replaced(judges):
    """The names of judges that the code under test has replaced, or added to tensors."""
    def is_wrapped_by_torch(new, old):          # the first optimizer does that to manual_seed
        code = getattr(new, "__code__", None)
        return getattr(new, "__wrapped__", None) is old and code and code.co_filename.startswith(
            str(Path(sys.modules["torch"].__file__).parent))
    named = set()
    for place, owner, before in judges:
        now = dict(vars(owner))
        if len(now) == len(before) and all(map(is_, now.values(), before.values())):
            continue
        named |= {f"{place}.{name}" for name, old in before.items() if callable(old)
                  and now.get(name) is not old and not is_wrapped_by_torch(now.get(name), old)}
        if place == "torch.Tensor":
            named |= {f"{place}.{name}" for name in now.keys() - before.keys()
                      if callable(now[name])}
    return ", ".join(sorted(named))
