import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.soak.kinds import KINDS
from tests.soak.programs import Programs
from tests.soak.soak import Extent, Soak, Tally

PROPERTY = "soak"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--minutes", type=float, help="put faults to the project for this long")
    group.addoption("--faults", type=int, help="this number of faults of each kind")
    group.addoption("--seed", type=int, help="of the first fault (drawn, if --minutes is given)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed once, before xdist starts its workers with these options."""
    options = config.option
    if getattr(options, "minutes", None) is not None and options.seed is None:
        options.seed = secrets.randbelow(10**6)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.soak)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print how many faults of each kind came to what."""
    tallies: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for reports in terminalreporter.stats.values():
        for name, value in (
            pair
            for each in reports
            # A test's setup and teardown have its properties too.
            if getattr(each, "when", None) == "call"
            for pair in each.user_properties
        ):
            if name == PROPERTY:
                kind, counts = json.loads(value)
                for outcome, number in counts.items():
                    tallies[kind][outcome] += number
    if not tallies or getattr(config.option, "minutes", None) is None:
        return
    write = terminalreporter.write_line
    terminalreporter.write_sep("=", f"faults, from seed {config.option.seed} on")
    for kind in (each for each in KINDS if each in tallies):
        counts = tallies[kind]
        shown = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
        write(f"{sum(counts.values()):6,}  {kind}: {shown}")
    total = sum(sum(counts.values()) for counts in tallies.values())
    fallen = sum(counts["fallen"] for counts in tallies.values())
    write(f"{total:6,}  together, {fallen} of them fallen")


@pytest.fixture
def soak(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Soak:
    """The soak, as long as the command line says; the quick suite has a short one."""
    option = request.config.getoption
    extent = Extent(
        seed=option("seed", None) or 0,
        minutes=option("minutes", None),
        faults=option("faults", None),
        processes=int(getattr(request.config, "workerinput", {}).get("workercount", 1)),
    )

    def note(tally: Tally) -> None:
        counts = {**tally.outcomes, "fallen": len(tally.fallen)}
        record_property(PROPERTY, json.dumps([tally.kind.name, counts]))

    return Soak(extent, note)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Starts programs `aalbert` that can be disturbed, in a few milliseconds each."""
    with Programs.start(tmp_path_factory.mktemp("programs")) as started:
        yield started
