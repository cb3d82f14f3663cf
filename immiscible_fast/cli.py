"""The command line: ``python -m immiscible_fast``, also installed as ``immiscible-fast``.

Heavy packages are imported by the subcommand that needs them, not here.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .choices import METHODS, PEERS
from .demo.settings import DemoSettings, OptionError

DEMO_PACKAGES = {
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "rich": "rich",
    "sklearn": "scikit-learn",
}
DEMO_EXAMPLE = """\
example:
  python -m immiscible_fast demo --seeds 1 --steps 1000
  python -m immiscible_fast demo --data ~/photos --output output/photos
"""
BENCH_EXAMPLE = """\
methods, by default all of the first three lines (sinkhorn on a GPU only):
  exact, auction, sinkhorn   of this package
  cdist+scipy                Euclidean distances and SciPy, as in most training code today
  centred+scipy              one matrix product and SciPy, the best that it can be given
  {peers}

example:
  python -m immiscible_fast bench --n 512 --dim 16384
  python -m immiscible_fast bench --n 512 --methods exact auction cdist+scipy lapx

The images are made up: smooth signals. Nothing is downloaded.
"""
DOCTOR_EXAMPLE = """\
example:
  python -m immiscible_fast doctor
  python -m immiscible_fast doctor --warm

The exit code is 0 if every method works on every device that was found, else 1.
"""


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults in the help, and examples as they were written."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (``sys.argv`` if None); the exit code.

    Raises
    ------
    SystemExit
        With code 2 for options that cannot work, with code 0 after ``--help`` and ``--version``.
    """
    parser, demo, bench = _parsers()
    arguments = vars(parser.parse_args(argv))
    command = arguments.pop("command")
    try:
        if command == "doctor":
            from . import doctor

            return doctor.main(**arguments)
        if command == "bench":
            return _run_bench(bench, arguments)
        return _run_demo(demo, arguments)
    except KeyboardInterrupt:
        return 130


def _run_bench(parser: argparse.ArgumentParser, arguments: dict[str, Any]) -> int:
    from . import benchmark

    try:
        return benchmark.main(**arguments)
    except ValueError as error:
        parser.error(str(error))


def _run_demo(parser: argparse.ArgumentParser, arguments: dict[str, object]) -> int:
    try:
        settings = DemoSettings(**arguments)  # type: ignore[arg-type]
        missing = [
            name for module, name in DEMO_PACKAGES.items() if not importlib.util.find_spec(module)
        ]
        if missing:
            parser.error(
                f"the demo needs {', '.join(missing)}: pip install 'immiscible-fast[demo]'"
            )
        from .demo.command import run_demo

        run_demo(settings)
    except OptionError as error:
        parser.error(str(error))
    return 0


def _method_name(text: str) -> str:
    """As the table spells it, however it was spaced: "cdist+scipy" saves the quotes."""
    return text.lower().replace(" ", "").replace("+", " + ")


def _peers() -> str:
    """Optional methods of the bench, by whether they are installed."""
    packages = {name: module.partition(".")[0] for name, (_, module, _) in PEERS.items()}
    here = [name for name, package in packages.items() if importlib.util.find_spec(package)]
    absent = [name for name in PEERS if name not in here]
    lines = [f"{', '.join(here):<26} other packages, installed here"] if here else []
    lines += [f"{', '.join(absent):<26} other packages, not installed"] if absent else []
    return "\n  ".join(lines)


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = _Parser(
        prog="python -m immiscible_fast",
        description="Noise assigned to the nearest images of its batch, for diffusion and flow "
        "training.",
        epilog="example:\n  python -m immiscible_fast demo --help\n",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"immiscible_fast {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="train two small models, with and without assignment, and compare them",
        description="Train a small flow-matching model twice from the same seed, with noise as it "
        "is drawn and\nwith noise assigned to its nearest images, and compare what they draw. "
        "Writes demo.png and\ndemo.json. A minute or two with the defaults.",
        epilog=DEMO_EXAMPLE,
        formatter_class=_Formatter,
    )
    _add_demo_options(demo)
    bench = commands.add_parser(
        "bench",
        help="how fast is it here, for your batch and image size, against what you use now",
        description="Time distances and assignment on this machine, and say what to use.",
        epilog=BENCH_EXAMPLE.format(peers=_peers()),
        formatter_class=_Formatter,
    )
    bench.add_argument("--n", type=int, default=1024, help="images in a batch")
    bench.add_argument("--dim", type=int, default=3072, help="numbers in an image or latent")
    bench.add_argument("--device", default="cpu", help="where images and noise are")
    bench.add_argument("--repeats", type=int, default=7, help="runs of each method")
    bench.add_argument(
        "--methods",
        nargs="+",
        type=_method_name,
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="what to compare; the names are below",
    )
    doctor = commands.add_parser(
        "doctor",
        help="say what is installed, and which methods work on which device",
        description="Print versions and devices, solve a small problem with every method on every "
        "device, and say\nwhere compiled code is cached.",
        epilog=DOCTOR_EXAMPLE,
        formatter_class=_Formatter,
    )
    doctor.add_argument(
        "--warm",
        action="store_true",
        help="first compile what calls will need, and keep it on disk for later processes",
    )
    return parser, demo, bench


def _add_demo_options(parser: argparse.ArgumentParser) -> None:
    defaults = DemoSettings()
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=argparse.SUPPRESS,
        help="folder of your own images, searched with its subfolders; without it, "
        "scikit-learn's handwritten digits",
    )
    add("--size", type=int, default=defaults.size, help="side in pixels that --data is resized to")
    add("--seed", type=int, default=defaults.seed, help="first seed")
    add("--seeds", type=int, default=defaults.seeds, help="how many seeds to average over")
    add("--steps", type=int, default=defaults.steps, help="training steps of each model")
    add("--batch", type=int, default=defaults.batch, help="images in a batch")
    add("--method", choices=METHODS, default=defaults.method, help="how assignments are solved")
    add(
        "--threads",
        type=int,
        default=defaults.threads,
        help="threads for torch; the models are small, so that one is often fastest",
    )
    add("--output", type=Path, default=defaults.output, metavar="DIR", help="folder to write to")
