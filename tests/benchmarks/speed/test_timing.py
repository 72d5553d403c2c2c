"""Interleaved timings, ratios and shares."""

from benchmarks.speed.timing import Case, interleaved, spread


def test_ratios_and_shares_are_better_when_larger():
    four, two = spread([4.0]), spread([2.0])
    slower, faster = Case("", "s", four, two, 1.0).to_json(), Case("", "1/s", four, two, 8.0).to_json()
    assert (slower["ratio"], slower["share_of_floor"]) == (0.5, 0.25)
    assert (faster["ratio"], faster["share_of_floor"]) == (2.0, 0.5)


def test_calls_take_turns_and_the_first_turn_is_not_counted():
    turns = []
    times = interleaved({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, runs=2)
    assert "".join(turns) == "ababab"
    assert [len(found) for found in times.values()] == [2, 2]
