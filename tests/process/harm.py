"""Workers that are killed at work, or stand still and come back as zombies."""

import signal
from collections.abc import Callable
from datetime import timedelta

from tests.process.rig import Rig, Tree
from tests.waiting import wait_until

LONG = timedelta(minutes=10)


def harm(
    rig: Rig, *, times: int, workers: int, processes: int, all_ended: Callable[[], bool]
) -> int:
    """Harm so many workers, each while it is at work, and replace it; every third stands still.

    ``all_ended`` is called again and again, and may check what has to hold at any moment. Waits
    until it is true; returns how many workers were harmed before.
    """

    def start() -> Tree:
        return rig.worker(processes=processes, ready=False)

    def somebody_works() -> Tree | bool:
        return all_ended() or next((tree for tree in trees if rig.busy(tree)), False)

    trees = [start() for _number in range(workers)]
    zombies: list[Tree] = []
    harmed = 0
    while harmed < times:
        tree = wait_until(somebody_works, deadline=LONG, why="somebody is at work")
        if isinstance(tree, bool):
            break
        trees.remove(tree)
        if harmed % 3 == 2:
            tree.stand_still()
            zombies.append(tree)
        else:
            tree.kill()
        trees.append(start())
        harmed += 1
    for zombie in zombies:
        zombie.signal_all(signal.SIGCONT)
    wait_until(all_ended, deadline=LONG, why="all jobs have ended")
    return harmed
