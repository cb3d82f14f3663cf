"""What `import immiscible_fast` costs, and what works without numba: judged in fresh processes."""

from __future__ import annotations

import sys

from fresh import run

HEAVY = ("numba", "llvmlite", "triton", "scipy", "matplotlib", "sklearn", "PIL", "pandas")


def test_importing_it_loads_little():
    """After torch, few of this package's own files and a little of the standard library."""
    program = """
import sys
import torch
before = set(sys.modules)
import immiscible_fast
print(*sorted(set(sys.modules) - before))
"""
    loaded = run(program).split()
    assert "immiscible_fast" in loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert packages.isdisjoint(HEAVY)
    assert "scipy.optimize" not in loaded
    others = {package for package in packages if package not in sys.stdlib_module_names}
    assert others <= {"immiscible_fast", "numpy"}
    own = [name for name in loaded if name.startswith("immiscible_fast")]
    assert not [name for name in own if "kernels." in name or "cpu.solver" in name]
    assert len(own) <= 12


def test_costs_and_scipy_work_without_numba_and_the_solver_says_what_is_missing():
    program = """
import sys
sys.modules["numba"] = None
import torch, immiscible_fast
x = torch.tensor([[0.0], [5.0], [9.0]])
noise = torch.tensor([[8.0], [1.0], [4.0]])
assert immiscible_fast.pairwise_cost(x, noise).shape == (3, 3)
assert immiscible_fast.fast_assign(x, noise, method="scipy").tolist() == [1, 2, 0]
assert immiscible_fast.fast_assign(x[:0], noise[:0]).tolist() == []
assert immiscible_fast.solve_assignment(torch.zeros(0, 3)).index.shape == (0,)
try:
    immiscible_fast.fast_assign(x, noise)
except ImportError as error:
    assert "numba" in str(error)
else:
    raise AssertionError("numba was blocked")
assert "scipy.optimize" in sys.modules
"""
    run(program)


def test_the_numba_solver_does_without_scipy_triton_and_matplotlib():
    program = """
import sys
for name in ("triton", "matplotlib", "scipy.optimize"):
    sys.modules[name] = None
import torch, immiscible_fast
x = torch.tensor([[0.0], [5.0], [9.0]])
noise = torch.tensor([[8.0], [1.0], [4.0]])
for method in ("auto", "exact", "auction", "sinkhorn"):
    assert immiscible_fast.fast_assign(x, noise, method=method).tolist() == [1, 2, 0]
"""
    run(program)


def test_workers_made_by_fork_and_spawn_solve_problems(tmp_path):
    """As the workers of a DataLoader would, after the parent has solved problems of its own."""
    program = """
import multiprocessing, torch, immiscible_fast
def work(n):
    cost = torch.arange(2 * n * n, dtype=torch.float32).reshape(2, n, n) % 7
    return immiscible_fast.solve_assignment(cost).index.tolist()
if __name__ == "__main__":
    want = [work(n) for n in (3, 20, 200)]
    for method in ("fork", "spawn"):
        # One thread, as in a DataLoader's worker: torch's own pool does not outlive a fork.
        with multiprocessing.get_context(method).Pool(2, torch.set_num_threads, (1,)) as pool:
            assert pool.map(work, (3, 20, 200)) == want
"""
    script = tmp_path / "workers.py"
    script.write_text(program)
    run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
