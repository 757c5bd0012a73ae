"""What is told of runc's own tests adds up, and each difference has its reason."""

from __future__ import annotations

import re

from conformance.runc_suite import Difference, Group, Suite, read_suite, suite_section


def test_all_tests_are_accounted_for() -> None:
    suite = read_suite()
    differences = [each for group in suite.groups for each in group.differences]
    assert len(differences) == suite.runc - suite.both > 0 and suite.both <= suite.pyruntime <= suite.tests
    assert len({(each.file, each.test) for each in differences}) == len(differences)
    assert sum(count for count, _ in suite.elsewhere) == suite.tests - suite.runc


def test_each_difference_has_a_reason() -> None:
    for group in read_suite().groups:
        assert len(group.reason) > 8 and group.title
        for each in group.differences:
            assert each.file.endswith(".bats") and each.test and each.what and not each.what.endswith(".")
            assert not re.search("not (yet )?(implemented|supported)", f"{group.reason} {each.what}")


def test_the_section() -> None:
    suite = Suite("runc 9, commit abc of 2026-01-02", "2026-02-03", "6.18", 5, 4, 3, 3, [(1, "an airlock")],
                  [Group("Doors", "They open outwards.", [Difference("doors.bats", "open [the door]", "opens the other way")])])
    text = "\n".join(suite_section(suite))
    assert "Of 5 tests runc passes 4 here, and this command line 3: 3 of those that runc\npasses, and 0 that it does not." in text
    assert "What only runc passes (1) is listed below." in text
    assert "- 1: an airlock" in text
    assert "### Doors\n\nThey open outwards.\n\n- `doors.bats`, `open [the door]`: opens the other way." in text
