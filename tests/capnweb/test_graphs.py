"""Three parties, objects passed every way, given up at any point: at the end nothing is held and all is disposed.

Messages are delivered one by one, on whichever of the six wires comes up, so that every overtaking that can happen
does.
"""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from itx_notebook.capnweb import RpcDisposed, RpcPromise, RpcStub, RpcTarget, dispose
from itx_notebook.capnweb.protocol.machine import Machine
from itx_notebook.capnweb.protocol.recording import record_map
from tests.capnweb.machines import Gate, InlineRuntime, Outcome, Pair, ask, check_tables, runtime_of


class World:
    """What was made, what waits, and what is kept."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.gates: list[Gate] = []
        self.kept: list[RpcStub] = []

    def open_gates(self) -> None:
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.open()


class Node(RpcTarget):
    """An object that makes, takes, keeps and gives objects."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disposals = 0
        world.nodes.append(self)

    def _rpc_dispose(self) -> None:
        self.disposals += 1

    def make(self) -> Node:
        return Node(self.world)

    def make_three(self) -> dict[str, Any]:
        one = Node(self.world)
        return {"again": [one, one], "other": Node(self.world), "count": 3}

    @property
    def child(self) -> Node:
        return Node(self.world)

    def echo(self, value: Any = None) -> Any:
        return value

    def wrap(self, *values: Any) -> Any:
        return {"values": values}

    async def later(self, value: Any = None) -> Any:
        gate = Gate()
        self.world.gates.append(gate)
        await gate
        return value

    async def ask_back(self, value: Any = None) -> Any:
        """Call what came, and wait for its answer before this call ends."""
        return await ask(value.make()) if isinstance(value, RpcStub) else None

    def make_at(self, value: Any = None) -> Any:
        """Return what another object makes, before it is known."""
        return value.make() if isinstance(value, RpcStub) else None

    def keep(self, value: Any = None) -> None:
        if isinstance(value, RpcStub):
            self.world.kept.append(value.dup())

    def give(self) -> Any:
        return self.world.kept[-1] if self.world.kept else None

    def fail(self, value: Any = None) -> None:
        raise ValueError("failed")


METHODS: Final = ("echo", "wrap", "later", "ask_back", "make_at", "keep", "fail", "absent")

_places = st.integers(min_value=0, max_value=1000)


class Graph(RuleBasedStateMachine):
    """What applications do, and what wires do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.pairs = [Pair(Node(self.world), Node(self.world)) for _ in range(3)]
        self.machines: list[Machine] = [machine for pair in self.pairs for machine in (pair.left, pair.right)]
        self.mains: list[Any] = [machine.main for machine in self.machines]
        self.held: list[Any] = []
        self.outcomes: list[Outcome] = []

    def pick(self, place: int) -> Any:
        """Return a main stub, or something that was got of one."""
        known = [*self.mains, *self.held]
        return known[place % len(known)]

    def try_call(self, method: Any, argument: Any) -> None:
        """Call; what was given up cannot be passed."""
        try:
            self.held.append(method(argument))
        except RpcDisposed:
            return

    # What applications do

    @rule(place=_places)
    def make(self, place: int) -> None:
        self.held.append(self.pick(place).make())

    @rule(place=_places)
    def make_three(self, place: int) -> None:
        made = self.pick(place).make_three()
        self.held += [made, made.other, made["again"][1]]

    @rule(place=_places)
    def read_child(self, place: int) -> None:
        self.held.append(self.pick(place).child.make())

    @rule(place=_places, argument=_places, method=st.sampled_from(METHODS))
    def call(self, place: int, argument: int, method: str) -> None:
        self.try_call(self.pick(place)[method], self.pick(argument))

    @rule(place=_places, argument=_places, method=st.sampled_from(METHODS))
    def call_with_several(self, place: int, argument: int, method: str) -> None:
        passed = self.pick(argument)
        self.try_call(self.pick(place)[method], [passed, {"again": passed, "child": passed.child}])

    @rule(place=_places, method=st.sampled_from(METHODS))
    def pass_an_object(self, place: int, method: str) -> None:
        self.held.append(self.pick(place)[method](Node(self.world)))

    @rule(place=_places, argument=_places, method=st.sampled_from(METHODS))
    def pass_a_function(self, place: int, argument: int, method: str) -> None:
        captured = self.pick(argument)
        self.held.append(self.pick(place)[method](lambda *_: captured.make()))

    @rule(place=_places)
    def take_what_is_kept(self, place: int) -> None:
        self.held.append(self.pick(place).give())

    @rule(place=_places)
    def map_over(self, place: int) -> None:
        nodes = self.pick(place).make_three()["again"]
        function = record_map(
            lambda node: {"made": node.make(), "node": node}, self.machines[0].runtime, self.machines[0].limits
        )
        self.held.append(RpcPromise(nodes._hook.map(nodes._path, function)))

    @rule(place=_places)
    def ask_for_it(self, place: int) -> None:
        promise = self.pick(place)
        if isinstance(promise, RpcPromise):
            self.outcomes.append(ask(promise))

    @rule(place=_places)
    def duplicate(self, place: int) -> None:
        if self.held:
            self.held.append(self.held[place % len(self.held)].dup())

    @rule(place=_places)
    def use_an_outcome(self, place: int) -> None:
        if self.outcomes:
            value = self.outcomes[place % len(self.outcomes)].value
            if isinstance(value, RpcStub):
                self.held.append(value.make())

    @rule(place=_places)
    def give_up(self, place: int) -> None:
        if self.held:
            dispose(self.held[place % len(self.held)])

    @rule(place=_places)
    def drop(self, place: int) -> None:
        if self.held:
            del self.held[place % len(self.held)]

    @rule()
    def drop_what_is_kept(self) -> None:
        if self.world.kept:
            dispose(self.world.kept.pop(0))

    # What the world does

    @rule(pair=st.integers(0, 2), to_left=st.booleans(), count=st.integers(1, 6))
    def deliver(self, pair: int, to_left: bool, count: int) -> None:
        for _ in range(count):
            self.pairs[pair].deliver(to_left=to_left)

    @rule()
    def open_gates(self) -> None:
        self.world.open_gates()

    @invariant()
    def tables_are_consistent(self) -> None:
        for machine in self.machines:
            assert machine.error is None
            check_tables(machine)

    def teardown(self) -> None:
        self.settle()
        dispose([*self.held, *self.world.kept, *(outcome.value for outcome in self.outcomes)])
        self.held.clear()
        self.world.kept.clear()
        self.outcomes.clear()
        for machine in self.machines:
            # Functions hold what they captured.
            runtime = self.runtime(machine)
            runtime.referred = [target for target in runtime.referred if isinstance(target, Node)]
        self.settle()
        if not self.is_clean():
            # What was dropped in a cycle.
            gc.collect()
            self.settle()
        assert self.is_clean(), [machine.stats() for machine in self.machines]
        for machine in self.machines:
            check_tables(machine)
        references = Counter(id(target) for machine in self.machines for target in self.runtime(machine).referred)
        miscounted = [
            (index, node.disposals, references[id(node)])
            for index, node in enumerate(self.world.nodes)
            if node.disposals != references[id(node)] - self.is_main(node)
        ]
        assert miscounted == []

    def settle(self) -> None:
        """Deliver everything, and let every call end."""
        while True:
            for pair in self.pairs:
                pair.run()
            if not self.world.gates and not any(self.is_talking(pair) for pair in self.pairs):
                return
            self.world.open_gates()

    def is_clean(self) -> bool:
        return all(machine.stats() == (1, 1) for machine in self.machines)

    def is_talking(self, pair: Pair) -> bool:
        return bool(pair.left.outbox or pair.right.outbox)

    def is_main(self, node: Node) -> bool:
        return node in self.world.nodes[: len(self.machines)]

    def runtime(self, machine: Machine) -> InlineRuntime:
        return runtime_of(machine)


Graph.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None, derandomize=True)
TestGraphs = Graph.TestCase
