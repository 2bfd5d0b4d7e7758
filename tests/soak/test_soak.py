import errno
import signal
from pathlib import Path
from random import Random

import pytest

from tests.soak.kinds import KINDS
from tests.soak.programs import Programs
from tests.soak.soak import Extent, Soak, Tally


def test_what_falls_is_named_by_its_seed_and_the_rest_goes_on() -> None:
    tallies: list[Tally] = []

    def fault(random: Random) -> str:
        seen.append(random.random())
        if len(seen) == 2:
            raise ValueError("odd")
        return "exit 99" if len(seen) == 3 else "exit 4"

    seen: list[float] = []
    soak = Soak(Extent(seed=7, faults=4), tallies.append)
    with pytest.raises(AssertionError) as caught:
        soak.run("datasets: damage, verified", fault)
    assert "seed 8: ValueError: odd\nseed 9: AssertionError: 'exit 99' may not" in str(caught.value)
    assert tallies[0].outcomes == {"exit 4": 2} and len(tallies[0].fallen) == 2
    assert seen[3] == Random("datasets: damage, verified 10").random()


def test_a_soak_ends_in_time_and_divides_it_by_share() -> None:
    kind = KINDS["datasets: damage, verified"]
    assert len(list(Extent(minutes=0.0).seeds(kind))) == 1
    assert list(Extent(seed=5).seeds(kind)) == list(range(5, 5 + kind.quick))


def test_programs_end_as_they_do_elsewhere(programs: Programs) -> None:
    assert programs.run("--version").outcome() == "right"
    unknown = programs.run("shards", "info", "nowhere")
    assert unknown.outcome() == "exit 3" and unknown.stdout == ""


def test_programs_can_be_struck_where_they_open_a_file(programs: Programs, prepared: Path) -> None:
    place = {"event": "open", "path": "manifest.json", "nth": 1}
    verify = ("shards", "verify", prepared)
    refused = programs.run(*verify, aim={**place, "action": "error", "argument": errno.EIO})
    assert refused.outcome() == "exit 7" and "Input/output error" in refused.stderr
    killed = programs.run(*verify, aim={**place, "action": "signal", "argument": signal.SIGKILL})
    assert killed.code == -signal.SIGKILL
    with pytest.raises(AssertionError, match="ended by SIGKILL"):
        killed.outcome()


def test_a_program_that_hangs_is_ended(programs: Programs, prepared: Path) -> None:
    place = {"event": "open", "path": "manifest.json", "nth": 1}
    stopped = {**place, "action": "signal", "argument": signal.SIGSTOP}
    with pytest.raises(AssertionError, match=r"hangs for 0\.5 s"):
        programs.begin("shards", "verify", prepared, aim=stopped).wait(0.5)
