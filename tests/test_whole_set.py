"""A data set that is paired with noise once: the file, and what reads it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from immiscible_fast import PairedDataset, fast_assign, pair_dataset
from immiscible_fast.training import whole_set
from immiscible_fast.training.items import item_noise

ROOT = Path(__file__).resolve().parents[1]


def pictures(n=60, seed=0):
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


class Tuples(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        return self.images[item], item % 3


class Dicts(Tuples):
    def __getitem__(self, item):
        return {"pixels": self.images[item], "label": item % 3}


def drawn(n, seed=0, epoch=0):
    noises = [item_noise(seed, item, (3, 2, 2), epoch) for item in range(n)]
    return torch.from_numpy(np.stack(noises))


def test_noise_of_an_item_is_gaussian_and_its_own():
    noise = np.stack([item_noise(5, item, (7, 3)) for item in range(4000)])
    assert noise.dtype == np.float32 and noise.shape == (4000, 7, 3)
    flat = noise.reshape(4000, 21)
    assert abs(flat.mean()) < 0.02 and abs(flat.std() - 1) < 0.02
    assert abs((flat**4).mean() - 3) < 0.15
    assert np.abs(np.corrcoef(flat.T) - np.eye(21)).max() < 0.08
    assert np.abs(np.corrcoef(flat[:30]) - np.eye(30)).max() < 0.9
    assert np.array_equal(item_noise(5, 17, (7, 3)), noise[17])
    assert not np.array_equal(item_noise(5, 17, (7, 3), epoch=1), noise[17])
    assert not np.array_equal(item_noise(6, 17, (7, 3)), noise[17])
    assert item_noise(5, 0, (0, 3)).shape == (0, 3)


def test_noise_is_the_same_on_every_machine():
    wanted = [1.3352358, -0.50778675, 0.1440267]
    assert np.allclose(item_noise(1, 2, (3,), 3), wanted, atol=1e-5)


def test_pairs_are_those_of_fast_assign(tmp_path):
    x = pictures()
    pairs = pair_dataset(x, seed=3, path=tmp_path / "pairs", epochs=2)
    for epoch in range(2):
        pairs.set_epoch(epoch)
        noise = drawn(60, 3, epoch)
        index = fast_assign(x, noise)
        assert np.array_equal(pairs.index, index.numpy())
        image, own = pairs[7]
        assert torch.equal(image, x[7]) and torch.equal(own, noise[index[7]])
        assert torch.equal(pairs[-1][1], noise[index[-1]])
    assert not np.array_equal(pairs.index, PairedDataset(x, tmp_path / "pairs").index)
    certificate = pairs.certificate
    before = (x - drawn(60, 3)).square().sum(dtype=torch.float64)
    assert np.isclose(certificate.cost_before[0, 0], float(before))
    assert certificate.gap.shape == (2, 1) and float(certificate.gap.max()) < 1e-3
    assert (certificate.cost_after < certificate.cost_before).all()
    with pytest.raises(IndexError):
        pairs[60]


def test_large_shards_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_set, "EXACT_UP_TO", 50)
    x = pictures(200)
    pairs = pair_dataset(x, seed=0, path=tmp_path / "pairs", tol=0.02)
    assert np.array_equal(
        pairs.index, fast_assign(x, drawn(200), method="streaming", tol=0.02).numpy()
    )


def test_shards_and_labels(tmp_path):
    x, labels = pictures(61), np.arange(61) % 2
    pairs = pair_dataset(x, seed=0, path=tmp_path / "pairs", n=25, labels=labels, epochs=2)
    assert pairs.certificate.gap.shape == (2, 3)
    for epoch in range(2):
        pairs.set_epoch(epoch)
        assert sorted(pairs.index) == list(range(61))
        assert np.array_equal(labels[pairs.index], labels)
    pairs.set_epoch(2)
    assert pairs.epoch == 0


@pytest.mark.parametrize("kind", ["tuples", "dicts", "memmap", "array", "bytes"])
def test_sources(kind, tmp_path):
    x = pictures(20)
    source, place = x, None
    if kind == "tuples":
        source = Tuples(x)
    elif kind == "dicts":
        source, place = Dicts(x), "pixels"
    elif kind == "memmap":
        np.save(tmp_path / "x.npy", x.numpy())
        source = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "array":
        source = x.double().numpy()
    else:
        source = (x * 255).to(torch.uint8).numpy()
        x = torch.from_numpy(source).float() / 127.5 - 1
    pairs = pair_dataset(source, seed=0, path=tmp_path / "pairs", image=place)
    assert np.array_equal(pairs.index, fast_assign(x, drawn(20)).numpy())
    item = pairs[4]
    noise = item["noise"] if kind == "dicts" else item[1]
    assert torch.equal(noise, drawn(20)[pairs.index[4]])
    if kind == "dicts":
        assert item["label"] == 1
    if kind == "tuples":
        assert item[2] == 1
    if kind == "bytes":
        assert item[0].dtype == torch.uint8


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader_read_it(method, tmp_path):
    x = pictures(24)
    pairs = pair_dataset(x, seed=0, path=tmp_path / "pairs")
    loader = DataLoader(pairs, batch_size=8, num_workers=1, multiprocessing_context=method)
    batches = list(loader)
    assert torch.equal(torch.cat([image for image, _ in batches]), x)
    assert torch.equal(torch.cat([noise for _, noise in batches]), drawn(24)[pairs.index])


@pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")  # torch 2.4 itself
def test_a_pickle_is_small(tmp_path):
    pairs = pair_dataset(pictures(50), seed=0, path=tmp_path / "pairs")
    assert pairs.index is not None
    copy = pickle.loads(pickle.dumps(pairs))
    assert torch.equal(copy[3][1], pairs[3][1])
    assert len(pickle.dumps(pairs)) < 50 * 3 * 4 * 4 + 4000


def test_it_goes_on_after_an_interrupt(tmp_path, monkeypatch):
    x, options = pictures(90), {"seed": 1, "n": 20, "epochs": 2}
    pair_dataset(x, path=tmp_path / "whole", **options)
    solve, calls = whole_set._pair, []

    def failing(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return solve(*args)

    monkeypatch.setattr(whole_set, "_pair", failing)
    with pytest.raises(KeyboardInterrupt):
        pair_dataset(x, path=tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()
    pair_dataset(x, path=tmp_path / "other", **options)
    assert len(calls) == 4 + 10 - 3
    assert (tmp_path / "other").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "other.part").exists()
    pair_dataset(x, path=tmp_path / "other", **options)  # it is there
    assert len(calls) == 11


def test_it_goes_on_after_a_kill(tmp_path):
    program = f"""
import os, signal, torch
from immiscible_fast import pair_dataset
from immiscible_fast.training import whole_set
solve, calls = whole_set._pair, []
def killed(*args):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return solve(*args)
whole_set._pair = killed
x = torch.rand(90, 3, 2, 2, generator=torch.Generator().manual_seed(0))
pair_dataset(x, seed=1, n=20, path={str(tmp_path / "other")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode != 0
    assert (tmp_path / "other.part").exists() and not (tmp_path / "other").exists()
    for name in ("other", "whole"):
        pair_dataset(pictures(90), seed=1, n=20, path=tmp_path / name)
    assert (tmp_path / "other").read_bytes() == (tmp_path / "whole").read_bytes()


def slowly(monkeypatch, from_call):
    """Shards from this one on wait for what is returned, and may raise."""
    solve, calls, go = whole_set._pair, [], threading.Event()

    def pair(*args):
        calls.append(1)
        if len(calls) >= from_call and not go.wait(60):
            raise AssertionError("nobody waited")
        if getattr(go, "error", None):
            raise go.error
        return solve(*args)

    monkeypatch.setattr(whole_set, "_pair", pair)
    return go


def test_later_epochs_are_assigned_in_the_background(tmp_path, monkeypatch):
    x, options = pictures(60), {"seed": 1, "n": 20, "epochs": 3}
    whole = pair_dataset(x, path=tmp_path / "whole", **options)
    go = slowly(monkeypatch, 4)
    monkeypatch.chdir(tmp_path)
    pairs = pair_dataset(x, path="other", background=True, **options)
    monkeypatch.chdir(ROOT)
    assert not (tmp_path / "other").exists() and np.array_equal(pairs.index, whole.index)
    assert np.isfinite(pairs.certificate.gap[0]).all() and np.isnan(pairs.certificate.gap[1:]).all()
    with pytest.raises(ValueError, match="epoch must be one that is assigned, got 1"):
        PairedDataset(x, tmp_path / "other").set_epoch(1)
    loader = DataLoader(pairs, batch_size=30, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(next(iter(loader))[1], torch.stack([whole[i][1] for i in range(30)]))
    threading.Timer(0.2, go.set).start()
    for epoch in (2, 1, 0):
        pairs.set_epoch(epoch)
        whole.set_epoch(epoch)
        assert np.array_equal(pairs.index, whole.index)
    pairs._filling.join()
    assert (tmp_path / "other").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "whole"]
    (tmp_path / "other").unlink()  # which is mapped, as by who did not wait
    pairs.set_epoch(1)


def test_what_is_mapped_need_not_be_renamed(tmp_path, monkeypatch):
    """As on Windows."""
    replace = Path.replace

    def refused(path, target):
        if path.suffix == ".part":
            raise PermissionError("somebody has it open")
        return replace(path, target)

    x, options = pictures(20), {"seed": 1, "epochs": 2, "path": tmp_path / "pairs"}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        pairs = pair_dataset(x, background=True, **options)
        pairs.set_epoch(1)
        pairs._filling.join()
        assert [path.name for path in tmp_path.iterdir()] == ["pairs.part"]
        assert np.array_equal(PairedDataset(x, options["path"], epoch=1).index, pairs.index)
    again = pair_dataset(x, **options)
    again.set_epoch(1)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]
    assert np.array_equal(again.index, pairs.index)


def test_an_interrupt_of_the_first_epoch_ends_the_thread(tmp_path, monkeypatch):
    solve, calls = whole_set._pair, []

    def pair(*args):
        calls.append(1)
        time.sleep(0.1)
        return solve(*args)

    def interrupted(filling, epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_set, "_pair", pair)
    monkeypatch.setattr(whole_set._Filling, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pair_dataset(pictures(60), seed=1, n=2, path=tmp_path / "pairs", background=True)
    for thread in threading.enumerate():
        if isinstance(thread, whole_set._Filling):
            thread.join(20)
    assert len(calls) < 5
    with pytest.raises(FileNotFoundError, match="path must be in a folder that exists"):
        pair_dataset(pictures(6), seed=1, path=tmp_path / "none" / "pairs")
    assert not (tmp_path / "none").exists()


def test_what_stops_the_background_is_raised_where_it_is_missed(tmp_path, monkeypatch):
    x, options = pictures(60), {"seed": 1, "epochs": 2, "background": True}
    go = slowly(monkeypatch, 2)
    pairs = pair_dataset(x, path=tmp_path / "pairs", **options)
    go.error = ZeroDivisionError("by zero")
    go.set()
    with pytest.raises(ZeroDivisionError, match="by zero"):
        pairs.set_epoch(1)
    go.error = None
    pair_dataset(x, path=tmp_path / "pairs", **options).set_epoch(1)  # it goes on
    with pytest.raises(ValueError, match="images must be finite"):
        pair_dataset(x * torch.nan, path=tmp_path / "none", **options)


def test_of_processes_that_want_one_file_one_writes_it(tmp_path):
    program = f"""
import torch
from immiscible_fast import pair_dataset
x = torch.rand(90, 3, 2, 2, generator=torch.Generator().manual_seed(0))
pair_dataset(x, seed=1, n=2, epochs=4, path={str(tmp_path / "shared")!r})
"""
    command = [sys.executable, "-c", program]
    ranks = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [rank.wait() for rank in ranks] == [0, 0, 0]
    pair_dataset(pictures(90), seed=1, n=2, epochs=4, path=tmp_path / "alone")
    assert (tmp_path / "shared").read_bytes() == (tmp_path / "alone").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "shared"]


def test_the_file_of_another_call_is_refused(tmp_path):
    x, path = pictures(10), tmp_path / "pairs"
    pair_dataset(x, seed=0, path=path)
    with pytest.raises(ValueError, match=r"path must not be that of another call: .* has seed 0"):
        pair_dataset(x, seed=1, path=path)
    with pytest.raises(ValueError, match="images must be the 10 of shape"):
        PairedDataset(pictures(9), path)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="path must be a file that pair_dataset wrote"):
        PairedDataset(x, path)
