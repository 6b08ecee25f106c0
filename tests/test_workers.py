"""Parts run side by side, each on one thread, and leave the process as it was."""

import threading
import time

import pytest
import torch

from headviz.pursuit.engine.parallel import in_parts, leave_if_stopped, n_cores, share_size
from headviz.pursuit.engine.precomputed import precompute_heads
from headviz.pursuit.engine.somp import pursue_precomputed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_what_the_parts_return_comes_in_their_order(threads, size):
    torch.set_num_threads(threads)
    parts = in_parts(lambda start, stop: list(range(start, stop)), 10, size, CPU)
    assert [number for part in parts for number in part] == list(range(10))
    assert all(len(part) <= size for part in parts)


def test_no_more_parts_run_at_once_than_allowed():
    running, most, lock, pair = 0, 0, threading.Lock(), threading.Barrier(2, timeout=20)

    def work(start, stop):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait()  # two do run at once; a third would come in while they wait
        time.sleep(0.01)
        with lock:
            running -= 1

    torch.set_num_threads(3)
    in_parts(work, 20, 1, CPU, at_once=2)
    assert most == 2


def test_a_part_has_one_thread_and_the_others_keep_theirs():
    inside = in_parts(
        lambda start, stop: (torch.get_num_threads(), n_cores(CPU), threading.current_thread()),
        8,
        1,
        CPU,
    )
    assert {threads for threads, _, _ in inside} == {1}
    assert {cores for _, cores, _ in inside} == {1}
    assert threading.main_thread() not in {thread for _, _, thread in inside}
    assert torch.get_num_threads() == n_cores(CPU) == 2
    seen = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [2]


def test_parts_within_a_part_run_one_after_the_other():
    def outer(start, stop):
        threads = in_parts(lambda start, stop: threading.current_thread(), 4, 1, CPU)
        return set(threads) == {threading.current_thread()}

    assert all(in_parts(outer, 4, 1, CPU))


def test_the_modes_of_torch_hold_inside():
    def modes(start, stop):
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert set(in_parts(modes, 4, 1, CPU)) == {(True, False)}
    with torch.no_grad():
        assert set(in_parts(modes, 4, 1, CPU)) == {(False, False)}
    with torch.inference_mode():
        assert set(in_parts(modes, 4, 1, CPU)) == {(False, True)}


def test_what_one_part_raises_ends_the_others_and_is_what_arrives():
    begun = []

    def work(start, stop):
        begun.append(start)
        if start == 1:
            raise KeyError("the second part")
        while True:  # until the other part has failed
            leave_if_stopped()

    with pytest.raises(KeyError, match="the second part"):
        in_parts(work, 50, 1, CPU)
    assert sorted(begun) == [0, 1]
    assert in_parts(lambda start, stop: start, 3, 1, CPU) == [0, 1, 2], "the next call is served"


@pytest.mark.parametrize(("total", "most"), [(1, 5), (7, 3), (32, 16), (33, 16), (320, 74)])
def test_shares_are_no_larger_than_allowed_and_alike(total, most):
    size = share_size(total, most, CPU)
    assert 1 <= size <= most
    n_parts = -(-total // size)
    assert n_parts % 2 == 0 or total < 4 or n_parts == -(-total // most)


def many_heads(n_atoms):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(6, 30, 8, generator=generator)
    w_o = torch.randn(6, 8, 32, generator=generator)
    atoms = torch.randn(n_atoms, 32, generator=generator)
    return precompute_heads(z, [w_o]), atoms


def test_a_watcher_of_heads_side_by_side_sees_the_share_grow_to_1():
    heads, atoms = many_heads(2000)
    seen = []
    pursue_precomputed(heads, atoms, 5, watch=seen.append)
    assert seen == sorted(seen) and len(seen) == 10 and seen[-1] == pytest.approx(1)


def test_a_watcher_that_raises_stops_all_heads():
    heads, atoms = many_heads(2000)
    calls = []

    def stop(share):
        calls.append(share)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pursue_precomputed(heads, atoms, 500, watch=stop)
    assert len(calls) == 1
