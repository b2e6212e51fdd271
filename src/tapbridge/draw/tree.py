"""Graph → text: a tree, a line for each node, its addresses below it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tapbridge.draw.graph import Edge, Graph, Node, make_graph
from tapbridge.draw.style import Role, Style, plain
from tapbridge.draw.text import visible
from tapbridge.model.guest import Guest
from tapbridge.model.noun import dataclass
from tapbridge.model.state import State


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What the lines of a tree are made of; each two columns wide, but `gap`."""

    tee: str
    corner: str
    bar: str
    gap: str = "  "


UNICODE = Glyphs("├─", "└─", "│ ")
ASCII = Glyphs("|-", "`-", "| ")


def host_tree(state: State, guests: Iterable[Guest] = (), *, unicode: bool = True, style: Style = plain) -> str:
    """The bridges of a host with their ports and guests, and below them the links without a bridge."""
    return tree(make_graph(state, guests), unicode=unicode, style=style)


def tree(graph: Graph, *, unicode: bool = True, style: Style = plain) -> str:
    """A graph as a tree for each node that hangs on nothing. What hangs on two is drawn twice."""
    nodes = {node.key: node for node in graph.nodes}
    below: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        if edge.above in nodes and edge.below in nodes:
            below.setdefault(edge.above, []).append(edge)
    hanging = {edge.below for edges in below.values() for edge in edges}
    drawing = _Drawing(nodes, below, UNICODE if unicode else ASCII, style)
    return "\n\n".join(
        "\n".join((drawing.line(node), *drawing.beneath(node, (), (node.key,))))
        for node in graph.nodes
        if node.key not in hanging
    )


@dataclass(frozen=True, slots=True)
class _Drawing:
    nodes: Mapping[str, Node]
    below: Mapping[str, Sequence[Edge]]
    glyphs: Glyphs
    style: Style

    def line(self, node: Node, facts: tuple[str, ...] = ()) -> str:
        role = node.role if node.up else Role.DOWN
        said = ", ".join(visible(fact) for fact in (*node.facts, *facts))
        return f"{self.style(role, visible(node.name))}  {said}".rstrip()

    def beneath(self, node: Node, notes: tuple[str, ...], path: tuple[str, ...]) -> Iterator[str]:
        """The lines below a node's own: its notes, and what hangs on it. `path` leads from the root to the node."""
        edges = [edge for edge in self.below.get(node.key, ()) if edge.below not in path]
        stem = self.glyphs.bar if edges else self.glyphs.gap
        for note in (*node.notes, *notes):
            yield f"{stem} {visible(note)}"
        for edge in edges:
            last = edge is edges[-1]
            child = self.nodes[edge.below]
            yield f"{self.glyphs.corner if last else self.glyphs.tee} {self.line(child, edge.facts)}"
            for line in self.beneath(child, edge.notes, (*path, child.key)):
                yield f"{self.glyphs.gap if last else self.glyphs.bar} {line}"
