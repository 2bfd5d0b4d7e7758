"""The place of a process in a run, from the variables that SLURM sets."""

import pytest

from aalbert.errors import ConfigError
from aalbert.train.loop.ranks import find_ranks
from aalbert.train.loop.trainer import make_trainer

JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "pretrain",
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a job, without what tests of others set."""
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"):
        # Set first, so that it is restored even where the code under test sets it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "size", "nodes"),
    [
        # sbatch --ntasks=2
        ({"NTASKS": "2", "NNODES": "1", "TASKS_PER_NODE": "2"}, 2, 1),
        # sbatch --nodes=2 --ntasks=4
        ({"NTASKS": "4", "NNODES": "2", "TASKS_PER_NODE": "2(x2)"}, 4, 2),
        ({"NTASKS": "4", "NNODES": "2", "TASKS_PER_NODE": "2,2"}, 4, 2),
        # sbatch --nodes=2 --ntasks-per-node=4, then srun --nodes=1 --ntasks=2
        (
            {
                **{"NTASKS": "2", "NNODES": "2", "TASKS_PER_NODE": "4(x2)"},
                **{"NTASKS_PER_NODE": "4", "STEP_TASKS_PER_NODE": "2"},
            },
            2,
            1,
        ),
        # sbatch --nodes=2 --ntasks-per-node=2
        ({"NTASKS": "4", "NNODES": "2", "TASKS_PER_NODE": "2(x2)", "NTASKS_PER_NODE": "2"}, 4, 2),
    ],
)
def test_ranks_are_those_that_srun_starts(
    slurm: pytest.MonkeyPatch, variables: dict[str, str], size: int, nodes: int
) -> None:
    for name, value in {**variables, "PROCID": "1", "NODEID": "0"}.items():
        slurm.setenv(f"SLURM_{name}", value)
    ranks = find_ranks()
    assert (ranks.rank, ranks.size, ranks.nodes) == (1, size, nodes)
    # Lightning compares them with what SLURM says.
    trainer = make_trainer(None, [], ranks, max_steps=1)  # type: ignore[arg-type]
    assert (trainer.world_size, trainer.num_nodes) == (size, nodes)


def test_nodes_with_different_numbers_of_tasks_are_refused(slurm: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "3", "NNODES": "2", "TASKS_PER_NODE": "2,1"}.items():
        slurm.setenv(f"SLURM_{name}", value)
    with pytest.raises(ConfigError, match=r"SLURM starts '2,1' tasks .* --ntasks-per-node"):
        find_ranks()


def test_a_job_of_one_task_is_one_process(slurm: pytest.MonkeyPatch) -> None:
    slurm.setenv("SLURM_NTASKS", "1")
    assert (find_ranks().rank, find_ranks().size) == (0, 1)
