"""Houses of drawn rooms, and walks through them by instruction."""

from collections import deque

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from mmlearn.data.navigation import (
    DIRECTIONS,
    LANDMARKS,
    STOP,
    Walks,
    World,
    draw_house,
    follow,
    forward_policy,
    instruct,
    landmark_picture,
    make_house,
    make_walk,
    make_walks,
    neighbours,
    random_policy,
    shortest_path_policy,
    shortest_paths,
    sides_of,
    wall_picture,
)
from mmlearn.data.scenes.language import Dice


def houses(n=4, side=4):
    return [make_house(7, i, side) for i in range(n)]


def searched(doors):
    """Distances from every room by a queue."""
    side = len(doors)
    out = np.full((side * side, side * side), -1)
    for start in range(side * side):
        queue = deque([(start, 0)])
        while queue:
            room, far = queue.popleft()
            if out[start, room] >= 0:
                continue
            out[start, room] = far
            y, x = divmod(room, side)
            for d, (v, u) in enumerate(((y - 1, x), (y, x + 1), (y + 1, x), (y, x - 1))):
                if doors[y, x, d]:
                    queue.append((v * side + u, far + 1))
    return out


def test_every_room_of_a_house_can_be_reached_and_doors_have_two_sides():
    for house in houses():
        doors = house.doors
        assert (searched(doors) >= 0).all()
        assert (doors[:-1, :, 2] == doors[1:, :, 0]).all() and (doors[:, :-1, 1] == doors[:, 1:, 3]).all()
        assert not doors[0, :, 0].any() and not doors[-1, :, 2].any()
        assert not doors[:, -1, 1].any() and not doors[:, 0, 3].any()


def test_a_house_has_no_landmark_twice_and_is_a_function_of_its_number():
    for i in range(4):
        house, again = make_house(7, i), make_house(7, i)
        assert len(set(house.landmarks)) == 16 and set(house.landmarks) <= set(LANDMARKS)
        assert (house.doors == again.doors).all() and house.landmarks == again.landmarks
    assert make_house(7, 0).landmarks != make_house(7, 1).landmarks


@pytest.mark.equation("eq:nav-distance")
def test_distances_of_all_houses_at_once_are_those_of_a_search_in_each():
    doors = np.stack([house.doors for house in houses()])
    assert (shortest_paths(doors) == np.stack([searched(d) for d in doors])).all()
    assert (shortest_paths(doors[0]) == searched(doors[0])).all()
    walled = np.zeros((3, 3, 4), dtype=bool)
    assert (shortest_paths(walled) == np.where(np.eye(9, dtype=bool), 0, -1)).all()


@pytest.mark.parity
def test_distances_are_those_of_scipy():
    doors = np.stack([house.doors for house in houses(3, 5)])
    for one, next_to, ours in zip(doors, neighbours(doors), shortest_paths(doors)):
        rooms, sides = np.nonzero(next_to >= 0)
        graph = csr_matrix((np.ones(len(rooms)), (rooms, next_to[rooms, sides])), shape=(25, 25))
        assert (ours == shortest_path(graph, unweighted=True)).all() and one.any()


def test_a_walk_is_a_shortest_path_of_the_lengths_asked_for():
    made = houses()
    distances = shortest_paths(np.stack([house.doors for house in made]))
    next_to = neighbours(np.stack([house.doors for house in made]))
    for i in range(40):
        walk = make_walk(made, distances, 3, i, steps=(2, 5))
        far = distances[walk.house, walk.path[0], walk.path[-1]]
        assert 2 <= far <= 5 and len(walk.path) == far + 1
        assert all(b in next_to[walk.house, a] for a, b in zip(walk.path, walk.path[1:]))
        assert walk == make_walk(made, distances, 3, i, steps=(2, 5))
    with pytest.raises(ValueError, match="no two rooms of house . are 99 to 99 doors apart"):
        make_walk(made, distances, 3, 0, steps=(99, 99))


def obey(world, house, room, facing, sentence):
    """Somebody who does what a sentence says, phrase by phrase, with nothing but what is seen."""
    path = [room]
    names = {" ".join(name): i for i, name in enumerate(world.houses[house].landmarks)}
    turns = {"go straight on": 0, "turn right and go on": 1, "turn around and go on": 2,
             "turn left and go on": 3}
    for phrase in sentence.split(", ")[:-1]:
        ways = [int(world.next_to[house, room, (facing + j) % 4]) for j in range(4)]
        if phrase in turns:
            turn = turns[phrase]
        else:
            name = " ".join(phrase.split()[-2:])
            turn = ways.index(names[name])
        room, facing = ways[turn], (facing + turn) % 4
        path.append(room)
    return path


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_who_does_what_an_instruction_says_walks_its_path(share):
    walks = make_walks(40, "train", houses=4, size=16, landmarks=share)
    for walk in walks.walks:
        path = obey(walks.world, walk.house, walk.path[0], walk.facing, walk.instruction)
        assert tuple(path) == walk.path
    turned = [sum("on" in phrase.split() for phrase in text.split(", ")) for text in walks.instructions]
    assert (max(turned) == 0) == (share == 1.0)


def test_an_instruction_names_turns_as_the_walker_sees_them():
    house = make_house(7, 0)
    text = instruct(house, [5, 1], 1, Dice(0), landmarks=0.0)                # facing east, going north
    assert text.startswith("turn left and go on, ") and sides_of([5, 1, 2, 6, 5], 4) == [0, 1, 2, 3]
    assert text.split(", ")[1] in ("stop there", "wait there", "and stop")
    assert DIRECTIONS[(0 - 1) % 4] == "left"


def test_seen_walks_share_houses_and_unseen_ones_do_not():
    train, seen, unseen = (make_walks(60, split, houses=3, size=16) for split in ("train", "seen", "unseen"))

    def ends(walks):
        return {(w.house, w.path[0], w.path[-1]) for w in walks.walks}

    assert [h.landmarks for h in train.world.houses] == [h.landmarks for h in seen.world.houses]
    assert not ends(train) & ends(seen)
    assert not {h.landmarks for h in train.world.houses} & {h.landmarks for h in unseen.world.houses}
    assert max(max(h.variants) for h in seen.world.houses) < min(min(h.variants) for h in unseen.world.houses)
    with pytest.raises(ValueError, match="split 'test' is unknown"):
        make_walks(1, "test")


def test_a_walker_sees_ahead_right_behind_left_and_where_it_is():
    walks = make_walks(6, houses=2, size=16)
    world = walks.world
    views = world.views(walks.house, walks.start, walks.facing)
    ways = world.ways(walks.house, walks.start, walks.facing)
    for i in range(6):
        h, room, facing = int(walks.house[i]), int(walks.start[i]), int(walks.facing[i])
        for j in range(4):
            beyond = int(world.next_to[h, room, (facing + j) % 4])
            assert int(ways[i, j]) == beyond
            assert int(views[i, j]) == (0 if beyond < 0 else int(world.room_picture[h, beyond]))
        assert int(views[i, 4]) == int(world.room_picture[h, room])
        colour, kind = world.houses[h].landmarks[room]
        drawn = landmark_picture(colour, kind, world.houses[h].variants[room], 16)
        assert torch.equal((world.pictures[views[i, 4]] * 255).round().byte(),
                           torch.from_numpy(drawn).permute(2, 0, 1))
    wall = torch.from_numpy(wall_picture(16)).permute(2, 0, 1)
    assert torch.equal((world.pictures[0] * 255).round().byte(), wall)


def test_a_step_turns_the_walker_and_walls_stop_it():
    walks = make_walks(30, houses=3, size=16)
    world = walks.world
    ways = world.ways(walks.house, walks.start, walks.facing)
    for action in range(5):
        room, facing = world.step(walks.house, walks.start, walks.facing, torch.full((30,), action))
        for i in range(30):
            if action == STOP or int(ways[i, action]) < 0:
                assert room[i] == walks.start[i] and facing[i] == walks.facing[i]
            else:
                assert room[i] == ways[i, action] and facing[i] == (walks.facing[i] + action) % 4


def test_what_is_right_leads_to_the_goal_from_everywhere_and_keeps_to_the_path():
    walks = make_walks(20, houses=3, size=16)
    for room in range(16):
        start = torch.full((20,), room)
        moved = Walks(walks.world, walks.walks, walks.house, start, walks.facing, walks.goal, walks.shortest,
                      walks.lead)
        trail = follow(moved, shortest_path_policy)
        assert trail.stopped.all() and (trail.to_goal[:, -1] == 0).all()
        assert torch.equal(trail.taken, walks.world.distances[walks.house, start, walks.goal])
    trail = follow(walks, shortest_path_policy)
    for row, walk in zip(trail.rooms.tolist(), walks.walks):
        assert tuple(row[:len(walk.path)]) == walk.path and set(row[len(walk.path):]) <= {walk.path[-1]}


def test_the_baselines_walk_as_they_say():
    walks = make_walks(40, houses=3, size=16)
    ahead = follow(walks, forward_policy(4))
    assert ahead.stopped.all() and (ahead.taken == 4).all() and ahead.rooms.shape == (40, 6)
    one, two = (follow(walks, random_policy(torch.Generator().manual_seed(1))) for _ in range(2))
    assert torch.equal(one.rooms, two.rooms)
    assert not torch.equal(one.rooms, follow(walks, random_policy(torch.Generator().manual_seed(2))).rooms)
    with pytest.raises(ValueError, match="most is 0 steps"):
        follow(walks, forward_policy(), most=0)


def test_pictures_of_rooms_and_houses_are_drawn_in_colour():
    a, b = landmark_picture("red", "car", 0), landmark_picture("red", "car", 1)
    assert a.shape == (32, 32, 3) and (a != b).any()
    assert (a == landmark_picture("red", "car", 0)).all()
    house = make_house(7, 0)
    plan = draw_house(house, 32)
    marked = draw_house(house, 32, [0, 1, 5])
    assert plan.shape == marked.shape == (4 * 36 + 4, 4 * 36 + 4, 3) and (plan != marked).any()


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="side is 9; use 2 to 6 rooms a side"):
        make_house(0, 0, 9)
    with pytest.raises(ValueError, match="there is no house to walk in"):
        World([])
    with pytest.raises(ValueError, match="there is no walk"):
        Walks.of(World(houses(1)), [])
