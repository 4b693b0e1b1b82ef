"""Names and sizes that do not exist are told, with the nearest that do."""

import pytest

from partial_equiv.errors import UserError
from partial_equiv.groups import GROUPS, make_group


@pytest.mark.parametrize("name", GROUPS)
def test_the_menu_holds_what_it_names(name):
    assert make_group(name) is GROUPS[name] and GROUPS[name].name == name


@pytest.mark.parametrize(("name", "turns", "mirror"), [("C7", 7, False), ("D9", 9, True), ("C128", 128, False)])
def test_cyclic_and_dihedral_groups_of_any_order(name, turns, mirror):
    group = make_group(name)
    assert (group.name, group.no_turns, group.mirror, group.continuous) == (name, turns, mirror, False)
    assert group.dimension == 1 + int(mirror)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("SE3", "'SE2'"), ("se2", "'SE2'"), ("e2", "'E2'"), ("C_4", "'C4'"), ("d4", "'D4'"), ("O2", "")],
)
def test_an_unknown_name_lists_the_choices_and_the_nearest(name, hint):
    with pytest.raises(UserError, match="T2, SE2, E2, C<n>, D<n>") as caught:
        make_group(name)
    assert f"base_group.name='{name}'" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", ["", "C0", "D0", "C-4", "C4.5", "C", None, 4])
def test_what_is_no_group_is_refused(name):
    with pytest.raises(UserError, match="is not one of"):
        make_group(name)


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("E2", 7, ["base_group.no_samples=7", "E2", "even", "6 and 8"]),
        ("E2", 3, ["no_samples=3", "2 and 4"]),
        ("E2", 1, ["no_samples=1", "even number from 2"]),
        ("E2", 0, ["no_samples=0", "even number from 2"]),
        ("SE2", 0, ["no_samples=0", "from 1"]),
        ("SE2", -4, ["no_samples=-4", "from 1"]),
        ("C4", 8, ["no_samples=8", "C4", "no_samples=4"]),
        ("C4", 0, ["no_samples=0", "no_samples=4"]),
        ("T2", 2, ["no_samples=2", "T2", "no_samples=1"]),
        ("D4", 4, ["no_samples=4", "no_samples=8"]),
        ("D4", 7, ["no_samples=7", "8"]),
    ],
)
def test_a_wrong_number_of_elements_names_the_right_one(name, number, words):
    for ask in (make_group(name).grid, make_group(name).no_rotations):
        with pytest.raises(UserError) as caught:
            ask(number)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_nearest_sizes_are_two_different_ones():
    with pytest.raises(UserError) as caught:
        make_group("E2").grid(1)
    assert "2 and 2" not in str(caught.value)
