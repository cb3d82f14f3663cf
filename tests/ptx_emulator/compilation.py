"""From a launch to a program of the emulator's machine, by Triton's compiler; and the machine, by
gcc.

Where Triton interprets, ``@triton.jit`` made functions of another class. Each has a twin here that
compiles, and while something is compiled, the twins stand where the interpreted ones did, and
Triton's language is what it was when this was imported: the interpreter leaves it changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language import core
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from .encode import encode
from .forms import c_source
from .ptx import BITS, Kernel, parse

RUNTIME = Path(__file__).parent / "runtime"
FLAGS = (
    "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fwrapv",
    "-fno-strict-aliasing", "-w", "-shared", "-fPIC",
)  # fmt: skip
NAME = re.compile(r"[%\w$]+")
COMPILER = os.environ.get("CC", "gcc")


def has_compiler() -> bool:
    return shutil.which(COMPILER) is not None


class Target:
    """A device by name, and as much of Triton's driver as compiling asks for."""

    def __init__(self, name: str):
        found = re.fullmatch(r"sm_(\d+)(\d)", name)
        if not found:
            raise ValueError(f"target must be like sm_90, got {name!r}")
        self.capability = int(found[1]), int(found[2])
        self.gpu = GPUTarget("cuda", 10 * self.capability[0] + self.capability[1], 32)
        self.binders: dict[int, tuple[Any, Any]] = {}

    def binder(self, jit: JITFunction) -> tuple[Any, Any]:
        """(backend, what sorts the arguments of a launch)."""
        if id(jit) not in self.binders:  # its own hash is that of its source, which is compiled
            *_, backend, binder = jit.create_binder()
            self.binders[id(jit)] = backend, binder
        return self.binders[id(jit)]

    def get_current_target(self) -> GPUTarget:
        return self.gpu

    def get_current_device(self) -> int:
        return 0


def _language() -> list[tuple[Any, dict[str, Any]]]:
    """Modules and classes of Triton's language, with what they hold."""
    modules = [module for name, module in sys.modules.items() if name.startswith("triton.language")]
    classes = [core.tensor, core.dtype]
    if hasattr(core, "tensor_descriptor_base"):  # since Triton 3.4
        classes.append(core.tensor_descriptor_base)
    return [(place, dict(vars(place))) for place in (*modules, *classes)]


if not core.is_builtin(core.reduce):
    raise ImportError("ptx_emulator has to be imported before Triton interprets anything")
LANGUAGE = _language()


def _restore(language: list[tuple[Any, dict[str, Any]]]) -> None:
    for place, names in language:
        now = vars(place)
        for name, value in names.items():
            if now.get(name) is not value:
                setattr(place, name, value)
        if isinstance(place, type):
            for name in set(now) - set(names):
                delattr(place, name)


@cache
def compiling_twin(function: InterpretedFunction) -> JITFunction:
    return JITFunction(function.fn, **function.kwargs)


@contextlib.contextmanager
def compiled_functions(target: Target) -> Iterator[None]:
    """Inside, the names of all kernels and of Triton's own library are of functions to compile."""
    triton.runtime.driver.set_active(target)
    if not triton.knobs.runtime.interpret:
        with _up_to_ptx(target):
            yield
        return
    interpreted = _language()
    _restore(LANGUAGE)
    replaced = []
    for module in list(sys.modules.values()):
        scope = getattr(module, "__dict__", {})
        for name, value in list(scope.items()):
            if type(value) is InterpretedFunction:
                replaced.append((module, name, value))
                setattr(module, name, compiling_twin(value))
    triton.knobs.runtime.interpret = False
    try:
        with _up_to_ptx(target):
            yield
    finally:
        triton.knobs.runtime.interpret = True
        for module, name, value in replaced:
            setattr(module, name, value)
        _restore(interpreted)


@contextlib.contextmanager
def _up_to_ptx(target: Target) -> Iterator[None]:
    """Leave out the assembler, and keep what then is incomplete in a cache of its own."""
    backend = type(triton.compiler.make_backend(target.gpu))
    with triton.knobs.cache.scope(), mock.patch.object(backend, "make_cubin", lambda *_: b""):
        triton.knobs.cache.dir = f"{triton.knobs.cache.dir}-ptx"
        yield


class Launch:
    """One launch as the runtime would specialise it."""

    def __init__(self, function: Any, args: Any, kwargs: dict[str, Any], target: Target):
        self.jit = (
            compiling_twin(function) if isinstance(function, InterpretedFunction) else function
        )
        self.target = target
        triton.runtime.driver.set_active(target)
        backend, binder = target.binder(self.jit)
        kwargs = kwargs | {"debug": False}
        self.bound, specialization, options = binder(*args, **kwargs)
        packed = self.jit._pack_args(backend, kwargs, self.bound, specialization, options)
        self.options, self.signature, self.constexprs, self.attributes = packed

    def key(self) -> str:
        of = self.jit.fn.__module__, self.jit.fn.__qualname__, self.jit.src
        return repr((*of, self.signature, self.constexprs, self.attributes, self.options))

    def compile(self) -> Any:
        source = ASTSource(self.jit, self.signature, self.constexprs, self.attributes)
        with compiled_functions(self.target):
            return triton.compile(
                source, target=self.target.gpu, options=dict(self.options.__dict__)
            )

    def executable(self) -> Executable:
        """Kept for other emulators."""
        key = f"{self.target.capability} {self.key()}"
        if key not in EXECUTABLES:
            compiled = self.compile()
            folder = Path(self.jit.fn.__code__.co_filename).parent
            one = Executable(compiled.asm["ptx"], compiled.metadata.shared, folder)
            EXECUTABLES[key] = one
        return EXECUTABLES[key]

    def arguments(self) -> list[tuple[str, Any]]:
        """What the kernel is passed: all but the constants."""
        return [(n, v) for n, v in self.bound.items() if self.signature[n] != "constexpr"]


class Executable:
    """One kernel, ready to run."""

    def __init__(self, ptx: str, shared: int, folder: Path | None = None):
        self.kernel = parse(ptx, folder)
        self.code = "\n".join(map(str, self.kernel.instructions()))
        self.encoded = encode(self.kernel)
        self.shared = shared
        self.shift = shared_granule(self.kernel)
        self.written = written_parameters(self.kernel)


EXECUTABLES: dict[str, Executable] = {}  # by target and launch


@cache
def load_machine() -> ctypes.CDLL:
    """The machine's code, compiled once and kept by its hash."""
    source = c_source()
    digest = hashlib.sha256(source.encode() + " ".join(FLAGS).encode())
    for path in sorted(RUNTIME.iterdir()):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"ptx_emulator-{os.getuid()}"
    library = folder / f"{digest.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as build:
            (Path(build) / "forms.h").write_text(source)
            output = Path(build) / "machine.so"
            command = [
                COMPILER,
                *FLAGS,
                f"-I{build}",
                str(RUNTIME / "emulator.c"),
                "-o",
                str(output),
            ]
            done = subprocess.run([*command, "-lm"], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")
            output.replace(library)
    return ctypes.CDLL(str(library))


def shared_granule(kernel: Kernel) -> int:
    """Bits of the smallest part of shared memory that is read or written on its own."""
    sizes = [16]
    for one in kernel.instructions():
        if one.parts[0] in ("ld", "st", "atom", "red") and one.parts[1].startswith("shared"):
            sizes.append(BITS[one.parts[-1]] // 8)
        elif one.name.startswith(("ldmatrix", "stmatrix")):
            sizes.append(2 if "trans" in one.parts else 4)
        elif one.parts[:2] == ["cp", "async"]:
            sizes.append(4)
        elif one.name.startswith("wgmma.mma_async"):
            sizes.append(2 if one.parts[-1] in ("f16", "bf16") else 4)
    return min(sizes).bit_length() - 1


def written_parameters(kernel: Kernel) -> set[int]:
    """Numbers of the pointers through which the code may write; where it came from is followed
    through registers and, since it is kept there, all of shared memory."""
    origin = {name: 1 << k for k, (name, _) in enumerate(kernel.parameters)}  # bits of numbers
    read = [(one, NAME.findall(" ".join(one.operands))) for one in kernel.instructions()]
    kept, before, changed, written = 0, 0, True, 0
    while changed or kept != before:
        before, changed = kept, False
        for one, names in read:
            new = kept if one.name.startswith("ld.shared") else 0
            for name in names[1:]:
                new |= origin.get(name, 0)
            if one.name.startswith(("st.shared", "stmatrix")):
                kept |= new | origin.get(names[0], 0)
            # Not what is read from where a pointer points to; halves of one may go their own ways.
            data = "global" in one.name and one.name.startswith(("ld.", "atom."))
            if not new or data or one.name.startswith(("st.", "red.")):
                continue
            for name in NAME.findall(one.operands[0]):
                if BITS[kernel.registers.get(name, "pred")] >= 32 and new & ~origin.get(name, 0):
                    origin[name] = origin.get(name, 0) | new
                    changed = True
    for one, _ in read:
        if one.name.startswith(("st.", "atom.", "red.")) and ".global" in one.name:
            for name in NAME.findall(one.operands[1 if one.name.startswith("atom") else 0]):
                written |= origin.get(name, 0)
    return {k for k in range(len(kernel.parameters)) if written >> k & 1}
