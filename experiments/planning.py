"""Planning in a maze by a Schroedinger bridge, from a straight line to an expert's trajectory.

    python experiments/planning.py                 both mazes, results/planning.json and docs/planning.png
    python experiments/planning.py --only umaze    one maze: its rows of the file, the others stay
    python experiments/planning.py --only large --who "quiet bridge"    one planner; the other rows stay, but the line's
    python experiments/planning.py --picture       the picture alone, of what runs left in the temporary folder
    python experiments/planning.py --smoke         seconds, nothing written

gymnasium-robotics' PointMaze: a ball of state (x, y, vx, vy) is pushed by forces (2) through a maze, 0.01 s a step, and
has arrived within 0.45 of its goal. Data are our own: an expert that follows a shortest route of cell centres, with
noise on its actions, from goal to random goal. A quarter of all ordered pairs (cell of the start, cell of the goal) is
held out of training, and all tests are on those; parts of their routes, and longer routes, do occur in training.

A plan is H states, evenly spaced in time; it rests at the goal once it is there. Plans in units of unit variance:

    bridge    i2sb from the straight line of constant speed to the expert's trajectory, total variance 1
    quiet     the same with a standard deviation of 0.3: what is to be decided is a route, not its every wiggle
    DDPM      diffusion (cosine, x0 predicted, ancestral steps) from noise of variance 1, as in Diffuser
    cloning   (state, goal) -> action by an MLP, twice as many updates, of 256 transitions; no plan

All planners have the same TemporalUNet, updates, batches and even steps of their clocks, and start and goal held at
every step and masked in the loss (``networks.hold``, ``guidance.hold``). One plan is drawn and tracked to its end by

    action = clip(10 (plan's position - position) + (plan's velocity - velocity), -1, 1),

in the simulator, without replanning. Success: the simulator's own flag, within the steps it allows. "Line" is the
straight line tracked in the same way: what a tracker does without a plan. Intervals are Wilson's at 95 %.
Published (Planning with Schroedinger bridges, arXiv 2406.12458) are scores in other mazes and units: none is quoted.
Budget: 35 minutes on two cores for both.
"""

from __future__ import annotations

import collections
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from study import Pick, Study, Table, installed, record, wilson

import bridgejax as bj
from bridgejax.networks import MLP, TemporalUNet
from bridgejax.objectives import times
from bridgejax.training import adam

STUDY = Study(
    "planning",
    topic="Schrödinger bridges",
    question="Can a bridge plan through a maze in few evaluations?",
    answer="In the small maze always, in one evaluation. In the large one mostly, also in one; DDPM with more "
    "evaluations does a little better, and cloning, which does not plan, always succeeds.",
    brief="Mostly in one; cloning without a plan does better.",
    budget="35 minutes on two cores",
    source="Planning with Schroedinger bridges, arXiv 2406.12458: scores in other mazes and units, none is quoted",
    picks=(
        Pick("success", {"maze": "PointMaze_Large-v3", "planner": "quiet bridge", "NFE": 1}, "success, large maze"),
        Pick("success", {"maze": "PointMaze_Large-v3", "planner": "DDPM", "NFE": 1}, "DDPM"),
    ),
    tables=(
        Table(
            "success",
            rows=("maze", "planner"),
            columns="NFE",
            where={"planner": ("bridge", "quiet bridge", "DDPM")},
            title="Success on held-out pairs of start and goal, by evaluations (NFE) of a plan",
        ),
        Table(
            "success",
            rows=("maze", "planner"),
            columns="NFE",
            where={"planner": ("bridge", "quiet bridge", "DDPM")},
            show="steps_over_expert",
            title="Steps over the expert's, where it succeeds",
        ),
        Table(
            "success",
            rows=("maze", "planner"),
            columns="NFE",
            where={"planner": ("bridge", "quiet bridge", "DDPM")},
            show="through_walls",
            title="Share of plans that cross a wall",
        ),
        Table(
            "success",
            rows=("maze", "planner"),
            where={"planner": ("line", "cloning")},
            title="Without a planner",
            also=(
                "interval",
                "steps_over_expert",
                "expert_steps",
                "expert_successes",
                "through_walls",
                "transitions",
            ),
        ),
        Table(
            "success",
            rows=("maze", "planner"),
            columns="NFE",
            where={"planner": ("bridge", "quiet bridge", "DDPM")},
            show="interval",
            title="Intervals of the success at 95 %",
        ),
    ),
    pictures=("planning",),
    timed=("maze", "planner"),
)
KEPT = pathlib.Path(tempfile.gettempdir()) / "bridgejax-planning"
PICTURE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "planning.png"
WHO = ("line", "bridge", "quiet bridge", "DDPM", "cloning")
EVALUATIONS = (1, 2, 4, 8, 16)
BAR = 0.9
BATCH, SHOWN, DRAWS = 32, 24, 5  # of an update; starts and goals that the picture may show, and plans of each


class Task(NamedTuple):
    """A maze and what is spent on it: plans of ``horizon`` states, ``stride`` simulator steps apart."""

    id: str
    horizon: int
    stride: int
    segments: int
    updates: int
    tests: int
    width: int
    multipliers: tuple[int, ...]


TASKS = {
    "umaze": Task("PointMaze_UMaze-v3", 32, 7, 2000, 2500, 200, 32, (1, 2, 4)),
    "large": Task("PointMaze_Large-v3", 48, 11, 3000, 5000, 200, 32, (1, 2, 4, 4)),
}

# the maze and its expert ----------------------------------------------------------------------------------------------


class Maze:
    """The simulator, its free cells, and which ordered pairs of them are held out."""

    def __init__(self, task: Task):
        import gymnasium
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        env = gymnasium.make(task.id)
        self.env: Any = env.unwrapped
        self.limit = int(env.spec.max_episode_steps)  # pyright: ignore
        self.walls = np.array([[cell == 1 for cell in row] for row in self.env.maze.maze_map])
        self.cells = [(int(i), int(j)) for i, j in np.argwhere(~self.walls)]
        self.centre = {cell: np.asarray(self.env.maze.cell_rowcol_to_xy(cell)) for cell in self.cells}
        pairs = [(a, b) for a in self.cells for b in self.cells if a != b]
        out = np.random.default_rng(0).permutation(len(pairs))[: len(pairs) // 4]
        self.out = {pairs[k] for k in out}

    def route(self, a: Any, b: Any, random: np.random.Generator) -> list[Any]:
        """A shortest route of cells from a to b, ties broken at random."""
        before, queue = {b: None}, collections.deque([b])
        while queue:
            cell = queue.popleft()
            for move in random.permutation([(0, 1), (1, 0), (0, -1), (-1, 0)]):
                beside = (cell[0] + int(move[0]), cell[1] + int(move[1]))
                if beside in self.centre and beside not in before:
                    before[beside] = cell
                    queue.append(beside)
        found = [a]
        while found[-1] != b:
            found.append(before[found[-1]])
        return found

    def expert(self, a: Any, b: Any, goal: np.ndarray, random: np.random.Generator, noise: float = 0.0) -> Callable:
        """A controller (n, state) -> action along a route of cell centres to the goal."""
        way = [self.centre[cell] for cell in self.route(a, b, random)[1:-1]] + [goal]

        def act(n: int, state: np.ndarray) -> np.ndarray:
            if len(way) > 1 and np.linalg.norm(way[0] - state[:2]) < 0.25:
                way.pop(0)
            return np.clip(10.0 * (way[0] - state[:2]) - state[2:], -1, 1) + noise * random.normal(size=2)

        return act

    def begin(self, a: Any, b: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Reset: the state at rest, somewhere in cell a, and a goal somewhere in cell b."""
        seen, _ = self.env.reset(seed=seed, options={"reset_cell": np.array(a), "goal_cell": np.array(b)})
        return seen["observation"].copy(), seen["desired_goal"].copy()

    def run(self, act: Callable, state: np.ndarray) -> tuple[int | None, np.ndarray]:
        """Steps until the simulator says that the goal is reached, or None, and the states."""
        states = [state]
        for n in range(self.limit):
            seen, _, _, _, info = self.env.step(np.clip(act(n, states[-1]), -1, 1))
            states.append(seen["observation"].copy())
            if info["success"]:
                return n + 1, np.array(states)
        return None, np.array(states)


class Data(NamedTuple):
    """Expert trajectories at the plan's times (n, H, 4), and transitions: state and goal (m, 6), action (m, 2)."""

    plans: np.ndarray
    seen: np.ndarray
    actions: np.ndarray
    dropped: int


def collect(maze: Maze, task: Task, noise: float = 0.3) -> Data:
    """Segments between successive random goals whose pair is not held out; none that takes longer than a plan."""
    random = np.random.default_rng(1)
    plans, seen, actions, dropped, here = [], [], [], 0, None
    last = (task.horizon - 1) * task.stride
    while len(plans) < task.segments:
        if here is None or len(plans) % 10 == 0:  # now and then from rest, as the tests begin
            here = maze.cells[random.integers(len(maze.cells))]
            state, _ = maze.begin(here, here, int(random.integers(1 << 30)))
        targets = [b for b in maze.cells if b != here and (here, b) not in maze.out]
        there = targets[random.integers(len(targets))]
        goal = maze.centre[there] + random.uniform(-0.25, 0.25, 2)
        act, states, acts = maze.expert(here, there, goal, random, noise), [state], []
        while len(acts) < 2 * last:
            acts.append(np.clip(act(len(acts), states[-1]), -1, 1))
            states.append(maze.env.point_env.step(acts[-1])[0].copy())
            if np.linalg.norm(states[-1][:2] - goal) < 0.1 and np.linalg.norm(states[-1][2:]) < 0.5:
                break
        state, here = states[-1], there
        if len(acts) >= last:
            dropped, here = dropped + 1, None
            continue
        rest = np.concatenate([state[:2], [0.0, 0.0]])
        plans.append(np.concatenate([states, np.tile(rest, (last + 1 - len(states), 1))])[:: task.stride])
        seen.append(np.concatenate([states[:-1], np.tile(state[:2], (len(acts), 1))], axis=1))
        actions.append(np.array(acts))
    a, b, c = (np.asarray(p, np.float32) for p in (np.stack(plans), np.concatenate(seen), np.concatenate(actions)))
    return Data(a, b, c, dropped)


# plans ----------------------------------------------------------------------------------------------------------------


def line(first: np.ndarray, last: np.ndarray, task: Task) -> np.ndarray:
    """The prior (n, H, 4): between two states (n, 4), a straight line in constant speed, its ends the states."""
    share = np.linspace(0.0, 1.0, task.horizon)[None, :, None]
    place = first[:, None, :2] * (1 - share) + last[:, None, :2] * share
    speed = np.repeat((last - first)[:, None, :2] / (0.01 * task.stride * (task.horizon - 1)), task.horizon, axis=1)
    plan = np.concatenate([place, speed], axis=2)
    plan[:, 0], plan[:, -1] = first, last
    return np.asarray(plan, np.float32)


def ends(args: Array) -> Array:
    """What is held: the known states of the straight line, which is every sample's condition."""
    return args


class Units(NamedTuple):
    """Mean and standard deviation of places and of velocities."""

    mean: np.ndarray
    scale: np.ndarray

    def to(self, plans: np.ndarray) -> np.ndarray:
        """Standardised."""
        return (plans - self.mean) / self.scale

    def back(self, plans: Any) -> np.ndarray:
        """And back."""
        return np.asarray(plans) * self.scale + self.mean


def units(plans: np.ndarray) -> Units:
    """Places share one scale, and velocities another."""
    spread = plans.std((0, 1))
    scale = np.sqrt([np.mean(spread[:2] ** 2)] * 2 + [np.mean(spread[2:] ** 2)] * 2)
    return Units(np.asarray(plans.mean((0, 1)) * [1, 1, 0, 0], np.float32), np.asarray(scale, np.float32))


def planners(task: Task) -> dict[str, Any]:
    """The Methods, of one network."""
    shape = (task.horizon, 4)
    mask = np.zeros(shape, bool)
    mask[[0, -1]] = True

    def options() -> dict[str, Any]:
        net = TemporalUNet(shape, width=task.width, multipliers=task.multipliers, blocks=1, rngs=nnx.Rngs(0))
        common = {"optimizer": adam(1e-3, steps=task.updates), "ema": 0.995, "ts": bj.grids.uniform(max(EVALUATIONS))}
        return {"network": bj.networks.hold(net, mask, ends), "shape": shape, **common}

    uniform = times.uniform(1e-3, 1.0)
    bridges = {
        name: (bj.methods.i2sb(sigma=sigma, conditional=True, time_sampler=uniform, **options()), mask)
        for name, sigma in (("bridge", 1.0), ("quiet bridge", 0.3))
    }
    return {
        **bridges,
        "DDPM": (
            bj.methods.diffusion(bj.schedules.cosine(), predict="x0", sampler="sde", time_sampler=uniform, **options()),
            mask,
        ),
    }


def learn(name: str, method: Any, mask: np.ndarray, data: Data, task: Task) -> tuple[Any, Units, float]:
    """The process with both ends held, its units and the seconds of an update."""
    scale, speeds = units(data.plans), []
    target = scale.to(data.plans)
    prior = scale.to(line(data.plans[:, 0], data.plans[:, -1], task))
    batches = {"x": target, "args": prior} if name == "DDPM" else {"source": prior, "target": target}
    watch = (lambda info: speeds.append(info.steps_per_second),)
    state = bj.fit(method, batches, jax.random.key(0), steps=task.updates, batch_size=BATCH, callbacks=watch)
    process = method.process(state)
    speed = float(np.median(speeds[1:])) if len(speeds) > 1 else float("nan")
    return replace(process, dynamics=bj.guidance.hold(process.dynamics, mask, ends)), scale, 1.0 / speed


def clone(data: Data, updates: int) -> Callable[[np.ndarray], np.ndarray]:
    """Behaviour cloning: (state, goal) -> action."""
    shift, scale = data.seen.mean(0), data.seen.std(0)
    apply, params = bj.networks.functional(MLP((6,), width=128, depth=2, rngs=nnx.Rngs(0)))  # two of its outputs

    def act(params: Any, seen: Array) -> Array:
        return apply(params, jnp.zeros(()), (seen - shift) / scale, None)[:2]

    def loss(params: Any, keys: Array, batch: Any) -> tuple[Array, dict[str, Array]]:
        return jnp.mean((jax.vmap(act, (None, 0))(params, batch["seen"]) - batch["action"]) ** 2), {}

    def process(params: Any) -> bj.Process:
        return bj.Process(bj.starts.point(jnp.zeros(2)), bj.SDE(lambda t, x, args: x), jnp.linspace(0.0, 1.0, 2))

    method = bj.gradient_method(loss, process, adam(1e-3, steps=updates), params=params)
    batches = {"seen": data.seen, "action": data.actions}
    state = bj.fit(method, batches, jax.random.key(0), steps=updates, batch_size=8 * BATCH)
    bound = jax.jit(act)
    return lambda seen: np.asarray(bound(method.params(state), np.asarray(seen, np.float32)))


def tracker(plan: np.ndarray, task: Task) -> Callable:
    """A controller along the places of a plan (H, 4), and at its end to its last."""
    at = task.stride * np.arange(task.horizon)
    steps = np.arange(at[-1] + 2)
    place = np.stack([np.interp(steps, at, plan[:, k]) for k in range(2)], axis=1)
    speed = np.diff(place, axis=0) / 0.01

    def act(n: int, state: np.ndarray) -> np.ndarray:
        k = min(n, len(speed) - 1)
        return 10.0 * (place[k + 1] - state[:2]) + (speed[k] - state[2:])

    return act


# what came of it ------------------------------------------------------------------------------------------------------


class Test(NamedTuple):
    """Held-out starts and goals, the expert's steps and its states."""

    pairs: list[Any]
    starts: np.ndarray
    goals: np.ndarray
    expert: np.ndarray
    paths: list[np.ndarray]


def tests(maze: Maze, n: int) -> Test:
    """n episodes on held-out pairs, and what the expert, without noise, makes of them."""
    random = np.random.default_rng(2)
    choices = sorted(maze.out)
    pairs = [choices[k] for k in random.integers(len(choices), size=n)]
    starts, goals, steps, paths = [], [], [], []
    for k, (a, b) in enumerate(pairs):
        state, goal = maze.begin(a, b, 1000 + k)
        taken, states = maze.run(maze.expert(a, b, goal, random), state)
        starts.append(state)
        goals.append(goal)
        steps.append(taken or maze.limit)
        paths.append(states)
    return Test(pairs, np.array(starts), np.array(goals), np.array(steps), paths)


def execute(maze: Maze, test: Test, controllers: list[Callable]) -> tuple[int, float, list[np.ndarray]]:
    """Successes, steps over the expert's where there is success, and the states."""
    steps, paths = [], []
    for k, ((a, b), act) in enumerate(zip(test.pairs, controllers, strict=True)):
        state, _ = maze.begin(a, b, 1000 + k)
        taken, states = maze.run(act, state)
        steps.append(taken or 0)
        paths.append(states)
    done = np.array(steps) > 0
    ratio = float(np.sum(np.array(steps)[done]) / np.sum(test.expert[done])) if done.any() else float("nan")
    return int(done.sum()), ratio, paths


def cuts(maze: Maze, plans: np.ndarray) -> float:
    """Share of plans (n, H, 4) that enter a wall by more than 0.1, looked at ten times between two states."""
    share = np.linspace(0.0, 1.0, 10, endpoint=False)[:, None]
    hits = 0
    for plan in plans[..., :2]:
        dense = np.concatenate([p + share * (q - p) for p, q in itertools.pairwise(plan)])
        near = np.stack([dense + 0.1 * np.array(move) for move in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))])
        cell = [maze.env.maze.cell_xy_to_rowcol(p) for p in near.reshape(-1, 2)]
        rows = np.clip(np.array(cell), 0, np.array(maze.walls.shape) - 1)
        hits += bool(maze.walls[rows[:, 0], rows[:, 1]].reshape(5, -1).all(axis=0).any())
    return hits / len(plans)


def measure(name: str, options: Any) -> Iterator[dict[str, Any]]:
    """Collect, train, plan, execute: one maze, or one planner in it."""
    task, chosen, smoke = TASKS[name], options.who, options.smoke
    words = "pip install gymnasium-robotics==1.4.2 mujoco==4.0.0"
    if not installed("planning", words, "gymnasium_robotics", "mujoco"):
        return
    if smoke:
        task = task._replace(segments=40, tests=3, updates=4, width=8, multipliers=(1, 2))
    updates = task.updates
    maze = Maze(task)
    data, test = collect(maze, task), tests(maze, task.tests)
    rows: list[dict[str, Any]] = []
    expert = int(np.sum(test.expert < maze.limit))

    def told(who: str, nfe: int | None, found: tuple[int, float, Any], **more: Any) -> dict[str, Any]:
        share, judged = found[0] / task.tests, name == "umaze" and who == "bridge"
        rows.append(
            record(
                "success",
                round(share, 4),
                {"maze": task.id, "planner": who, **({} if nfe is None else {"NFE": nfe})},
                bar=f"at least {BAR}" if judged else None,
                met=share >= BAR if judged else None,
                n=task.tests,
                interval=list(wilson(found[0], task.tests)),
                steps_over_expert=round(found[1], 4) if found[0] else None,
                expert_steps=float(test.expert.mean()),
                expert_successes=expert,
                **more,
            )
        )
        return rows[-1]

    goals = np.concatenate([test.goals, np.zeros_like(test.goals)], axis=1)
    prior = line(test.starts, goals, task)
    kept: dict[str, Any] = {"line": prior, "expert": np.fromiter(test.paths, object, len(test.paths))}
    found = execute(maze, test, [tracker(plan, task) for plan in prior])
    yield told("line", None, found, through_walls=cuts(maze, prior))
    for who, (method, mask) in planners(task).items():
        if chosen not in (None, who):
            continue
        first = time.perf_counter()
        process, scale, seconds = learn(who, method, mask, data, task)
        cost = {"updates": updates, "batch": BATCH, "seconds_per_update": seconds, "trajectories": len(data.plans)}
        cost |= {"left_out": data.dropped, "seconds": time.perf_counter() - first}
        given = scale.to(prior)  # and the first ones again, for the picture
        given = jnp.asarray(np.concatenate([given, *[given[:SHOWN]] * (DRAWS - 1)]))
        for nfe in (2,) if smoke else EVALUATIONS:
            drawn = bj.sample(process, bj.keys(jax.random.key(nfe), len(given)), given, ts=bj.grids.uniform(nfe))
            assert np.array_equal(drawn[:, [0, -1]], given[:, [0, -1]]), "a plan that does not begin and end as held"
            every = scale.backward(drawn)
            plans = every[: task.tests]
            found = execute(maze, test, [tracker(plan, task) for plan in plans])
            yield told(who, nfe, found, through_walls=cuts(maze, plans), **cost)
            more = every[task.tests :].reshape(DRAWS - 1, -1, *plans.shape[1:])
            kept[f"{who}-{nfe}"] = np.concatenate([plans[None, : more.shape[1]], more]).swapaxes(0, 1)
    if chosen in (None, "cloning"):
        first = time.perf_counter()
        act = clone(data, 2 * updates)
        goals_of = [lambda n, state, goal=goal: act(np.concatenate([state, goal])) for goal in test.goals]
        found = execute(maze, test, goals_of)
        cost = {"updates": 2 * updates, "batch": 8 * BATCH, "seconds": time.perf_counter() - first}
        yield told("cloning", None, found, transitions=len(data.seen), **cost)
    if not smoke:
        keep(KEPT / f"{name}.npz", maze, rows, kept)


def keep(file: pathlib.Path, maze: Maze, rows: list[dict[str, Any]], plans: dict[str, Any]) -> None:
    """Leave what the picture shows, beside what other planners left."""
    KEPT.mkdir(exist_ok=True)
    old = dict(np.load(file, allow_pickle=True)) if file.exists() else {}
    shares = old["shares"].item() if old else {}
    shares |= {f"{r['case']['planner']}-{r['case'].get('NFE')}": r["value"] for r in rows}
    np.savez(file, **{**old, **plans, "walls": maze.walls, "shares": np.array(shares, object)})


def picture(records: Any) -> None:
    """Plans between held-out starts and goals, walls in grey; titles say the share of successes."""
    from matplotlib import pyplot as plt

    files = {name: KEPT / f"{name}.npz" for name in TASKS if (KEPT / f"{name}.npz").exists()}
    if not files:
        return
    panels = (
        "line-None",
        "bridge-1",
        "bridge-4",
        "bridge-16",
        "quiet bridge-4",
        "quiet bridge-16",
        "DDPM-4",
        "DDPM-16",
    )
    figure, axes = plt.subplots(len(files), len(panels), figsize=(2.3 * len(panels), 2.7 * len(files)), squeeze=False)
    for row, file in zip(axes, files.values(), strict=True):
        found = np.load(file, allow_pickle=True)
        walls, shares = found["walls"], found["shares"].item()
        high, wide = walls.shape
        chosen: list[int] = []  # long ones, from different places
        for k in sorted(range(SHOWN), key=lambda k: -len(found["expert"][k])):
            away = [np.linalg.norm(found["line"][k][0, :2] - found["line"][j][0, :2]) for j in chosen]
            if len(chosen) < 3 and min(away, default=np.inf) > 0.2 * max(high, wide):
                chosen.append(k)
        for axis, panel in zip(row, panels, strict=True):
            if panel not in shares:
                axis.set_axis_off()
                continue
            who, nfe = panel.split("-")
            box = (-wide / 2, wide / 2, -high / 2, high / 2)
            axis.imshow(walls, cmap="Greys", vmin=0, vmax=2.2, extent=box, interpolation="nearest")
            for colour, k in zip(("tab:blue", "tab:orange", "tab:green"), chosen, strict=False):
                plans = [found["line"][k]] if who == "line" else found[panel][k]
                for plan in plans:
                    axis.plot(*plan[:, :2].T, lw=0.9, alpha=0.7, color=colour)
                if who == "line":
                    axis.plot(*found["expert"][k][:, :2].T, lw=1.0, ls=":", color=colour)
                axis.plot(*found["line"][k][0, :2], "o", ms=5, color=colour, mec="k", mew=0.6)
                axis.plot(*found["line"][k][-1, :2], "*", ms=9, color=colour, mec="k", mew=0.6)
            title = "prior line (dotted: expert)" if who == "line" else f"{who}, NFE {nfe}"
            axis.set_title(f"{title}\n{100 * shares[panel]:.0f} % reach the goal", fontsize=9)
            axis.set(xticks=[], yticks=[], xlim=(0.6 - wide / 2, wide / 2 - 0.6), ylim=(0.6 - high / 2, high / 2 - 0.6))
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")
    print(PICTURE)


def options(parser: Any) -> None:
    """What only this script has."""
    parser.add_argument("--who", choices=WHO[1:], help="one planner")


if __name__ == "__main__":
    STUDY.run(
        __doc__, {name: partial(measure, name) for name in TASKS}, options, smoke=("umaze",), picture=picture
    )  # fmt: skip
