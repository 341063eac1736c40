# SPDX-License-Identifier: MIT
"""Every row of the fault table, on this interpreter; and the runner, whom nothing may escape."""

from __future__ import annotations

import bad
import pytest
import runner
import sections
from row import Scenario
from stage import NO_WAY

SCENARIOS = sections.all_scenarios()

NOTICED = {
    bad.hangs_in_a_child: "hangs",
    bad.leaves_a_descriptor: "leaves 2 descriptor(s)",
    bad.leaves_a_child: "leaves 1 process(es)",
    bad.leaves_a_zombie: "leaves 1 process(es)",
    bad.leaves_a_daemon: "leaves 1 process(es) behind",
    bad.leaves_a_mapping: "leaves 1 mapping(s)",
    bad.leaves_a_name: "leaves 1 name(s)",
    bad.lets_a_child_escape: "1 child(ren) ran on into the program's end",
    bad.breaks_its_promise: "in its own words",
    bad.raises_something: "LookupError: of its own",
    bad.leaves_without_a_word: "the program ended with status 7",
    bad.is_in_order: "held",
}


@pytest.mark.parametrize(
    "scenario", SCENARIOS, ids=[f"{one.row.identity}-{one.name}" for one in SCENARIOS]
)
@pytest.mark.timeout(240)
def test_row_holds(scenario: Scenario) -> None:
    """The fault is injected in a program of its own; what must happen happens."""
    outcome = runner.run(scenario)
    if outcome.text == NO_WAY:
        pytest.skip(NO_WAY)
    assert outcome.held, f"{outcome.text}\n{outcome.complaint}"


@pytest.mark.parametrize("scenario", bad.BAD.scenarios, ids=lambda scenario: scenario.name)
def test_runner_notices(scenario: Scenario) -> None:
    """A scenario that breaks its promise in any way is not taken for one that holds."""
    outcome = runner.run(scenario)
    assert outcome.text == NOTICED[scenario.function], outcome.complaint


def test_hanging_scenario_shows_all_stacks() -> None:
    """The stacks of the parent and of the child are in the complaint."""
    outcome = runner.run(sections.find("bad", "hangs_in_a_child"))
    assert "in join" in outcome.complaint
    assert "in for_ever" in outcome.complaint


def test_every_row_has_a_scenario() -> None:
    """No row is a promise alone."""
    assert [row.identity for row in sections.all_rows() if not row.scenarios] == []
