"""Running the two networks of the face mesh: parts, threads, and the settings of whoever uses PyTorch beside them."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_canonical.adapters.face_networks import (
    CHUNK,
    DETECTOR_SIZE,
    FEW,
    evaluate,
    face_networks,
    one_thread,
    probability,
)

CPU = torch.device("cpu")


class Means(nn.Module):
    """The mean of each image and how many threads computed it; writes down the sizes of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(x))
        assert torch.is_inference_mode_enabled()
        return x.mean((1, 2, 3)), torch.full((len(x),), torch.get_num_threads())


@pytest.fixture
def two_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 37])
def test_parts_are_put_together_in_order(two_threads: object, count: int) -> None:
    network, crops = Means(), [np.full((4, 4, 3), value, np.uint8) for value in range(count)]
    means, threads = evaluate(network, crops, CPU, 2, -1)
    assert means.tolist() == [value / 2 - 1 for value in range(count)] and means.dtype == np.float64
    assert set(threads) == {1.0}
    assert sum(network.sizes) == count and max(network.sizes) <= max(FEW, min(CHUNK, (count + 1) // 2))


def test_settings_of_the_user_stay(two_threads: object) -> None:
    evaluate(Means(), [np.zeros((4, 4, 3), np.uint8)] * 4, CPU, 255)
    assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()
    with pytest.raises(KeyboardInterrupt), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def test_one_thread_starts_no_others(two_threads: object) -> None:
    torch.set_num_threads(1)
    network = Means()
    evaluate(network, [np.zeros((4, 4, 3), np.uint8)] * 11, CPU, 255)
    assert network.sizes == [8, 3]


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(two_threads: object) -> None:
    crops = [np.zeros((4, 4, 3), np.uint8)] * 4
    evaluate(Means(), crops, CPU, 255)
    child = os.fork()
    if child == 0:
        os._exit(0 if evaluate(Means(), crops, CPU, 255)[0].tolist() == [0.0] * 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_an_image_gives_does_not_depend_on_the_others(two_threads: object) -> None:
    generator = np.random.default_rng(0)
    crops = [generator.integers(0, 256, (DETECTOR_SIZE, DETECTOR_SIZE, 3)).astype(np.uint8) for _ in range(11)]
    network = face_networks(CPU)[0]
    together = evaluate(network, crops, CPU, 127.5, -1)
    alone = [evaluate(network, [crop], CPU, 127.5, -1) for crop in crops]
    for number, values in enumerate(together):
        np.testing.assert_allclose(values, np.concatenate([each[number] for each in alone]), atol=1e-3)


def test_probabilities_by_hand() -> None:
    np.testing.assert_allclose(probability(np.array([0.0, np.log(3), -1e6, 1e6])), [0.5, 0.75, np.exp(-100), 1])


def test_faces_do_not_depend_on_the_settings_of_pytorch() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    device, crops = torch.device("cpu"), [photo, photo[::-1].copy(), photo[:, ::-1].copy()]
    expected = evaluate(face_networks(device)[1], crops, device, 255)[0]
    face_networks.cache_clear()
    state = torch.get_rng_state()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16):
            found = evaluate(face_networks(device)[1], crops, device, 255)[0]
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)
