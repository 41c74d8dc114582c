"""The keys that act on the text, each with the name by which it can be given another key."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from tui.heat import FORKS

_FORK_IDS = ("uncertain", "other_choice", "surprise")

TEXT_KEYS: list[BindingType] = [
    Binding("left", "move(-1)", "token back", show=False, id="text.back"),
    Binding("right", "move(1)", "token on", show=False, id="text.on"),
    Binding("up", "move_row(-1)", "row up", show=False, id="text.up"),
    Binding("down", "move_row(1)", "row down", show=False, id="text.down"),
    Binding("home", "select(0)", "first token", show=False, id="text.first"),
    Binding("end", "newest", "newest token", show=False, id="text.newest"),
    *(
        Binding(
            f"shift+{key}",
            f"extend({action!r})",
            f"select: {what}",
            show=False,
            id=f"text.{name}",
        )
        for key, action, what, name in (
            ("left", "move(-1)", "token back", "select_back"),
            ("right", "move(1)", "token on", "select_on"),
            ("up", "move_row(-1)", "row up", "select_up"),
            ("down", "move_row(1)", "row down", "select_down"),
            ("home", "select(0)", "to the first token", "select_first"),
            ("end", "newest", "to the newest token", "select_newest"),
        )
    ),
    Binding("delete", "screen.delete", "delete from here on", show=False, id="text.delete"),
    Binding("z", "screen.undo", "undo a deletion", show=False, id="text.undo"),
    Binding("i", "screen.instead", "something else here", show=False, id="text.instead"),
    Binding(
        "left_square_bracket", "screen.branch(-1)", "branch before", show=False, id="text.last"
    ),
    Binding("right_square_bracket", "screen.branch(1)", "next branch", show=False, id="text.next"),
    Binding("m", "screen.mark", "bookmark", show=False, id="text.mark"),
    Binding("b", "screen.next_mark", "next bookmark", show=False, id="text.next_mark"),
    Binding("t", "screen.tree", "tree of branches", show=False, id="text.tree"),
    Binding("x", "screen.ban", "ban this token", show=False, id="text.ban"),
    Binding("plus", "screen.boost(1)", "more of this token", show=False, id="text.boost"),
    Binding("minus", "screen.boost(-1)", "less of this token", show=False, id="text.damp"),
    Binding("y", "screen.copy", "copy the text", show=False, id="text.copy"),
    Binding("slash", "screen.search", "search", show=False, id="text.search"),
    Binding("n", "screen.found(1)", "next match", show=False, id="text.found"),
    Binding("N", "screen.found(-1)", "last match", show=False, id="text.found_last"),
    Binding("e", "screen.inside", "examine every layer", show=False, id="text.inside"),
    Binding("E", "screen.owes", "what this token owes to each", show=False, id="text.owes"),
    Binding("p", "screen.paths", "most likely paths", show=False, id="text.paths"),
    Binding("v", "screen.compare", "read by another model", show=False, id="text.compare"),
    Binding(
        "w",
        "screen.what_if_beside",
        "what would another model write",
        show=False,
        id="text.what_if_beside",
    ),
    Binding("k", "screen.options", "score named continuations", show=False, id="text.options"),
    Binding("c", "colours", "colour by something else", show=False, id="text.colours"),
    *(
        Binding(key, f"fork({kind!r}, {by})", f"{way} where {kind}", show=False, id=name)
        for pair, what, kind in zip(("uU", "oO", "sS"), _FORK_IDS, FORKS, strict=True)
        for key, by, way, name in (
            (pair[0], 1, "next", f"text.next_{what}"),
            (pair[1], -1, "last", f"text.last_{what}"),
        )
    ),
    *(
        Binding(str(n), f"screen.take({n})", f"take candidate {n}", show=False, id=f"text.take_{n}")
        for n in range(1, 10)
    ),
]
