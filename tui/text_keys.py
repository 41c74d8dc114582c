"""The table of keys that act in the text."""

from __future__ import annotations

from tui.heat import FORKS
from tui.key import BRANCH, BRANCH_SYNONYMS, TREE, Group, Key

_MOVE = "Cursor: select another token; every panel shows the numbers of the selected one."
_SELECT = "Selection: extend it to several tokens, to copy them."
_TAKE = (
    "Candidate: put the one with this number in the place of the token and continue; the old text "
    "stays as a branch, and [ goes back to it."
)
_BOOST = (
    "Logit bias: add or subtract 1 nat, which multiplies or divides the odds of this token by 2.7."
)
_PANEL = (
    "Panels next to the text: show the next or the previous one: token, sampling, layers, branches."
)
_MATCH = "Search: go to the next or the previous match."
_FORK = {
    "uncertain": (
        "uncertain token",
        "Entropy: go to the next or the previous token at which the model was uncertain, with 4 "
        "or more equally likely tokens.",
        "entropy unsure doubt choice fork decision hesitate",
    ),
    "other_choice": (
        "not first choice",
        "Rank: go to the next or the previous token that was not the model's first choice.",
        "rank first choice sampled unlikely argmax greedy differs",
    ),
    "surprise": (
        "surprising token",
        "Surprisal: go to the next or the previous token with a probability of 5 % or less.",
        "surprisal surprising unlikely rare improbable probability outlier strange",
    ),
}
"""Name → short words, sentence and synonyms, for the kinds of FORKS in their order."""
_WAYS = {1: "next", -1: "previous"}

# A key takes a line or two each for what it is, for its sentence, and for the words that find it.
# fmt: off
_MOVES = (
    # Key, action, description, description of selecting with Shift, name.
    ("left", "move(-1)", "previous token", "previous token", "back"),
    ("right", "move(1)", "next token", "next token", "on"),
    ("up", "move_row(-1)", "row up", "row up", "up"),
    ("down", "move_row(1)", "row down", "row down", "down"),
    ("home", "select(0)", "first token", "to the first token", "first"),
    ("end", "newest", "newest token", "to the newest token", "newest"),
)

_IN_THE_TEXT: dict[Group, tuple[Key, ...]] = {
    "Move": (
        *(
            Key(f"text.{name}", key, action, what,
                help=_MOVE, short="move", synonyms="cursor arrow go")
            for key, action, what, _, name in _MOVES
        ),
        *(
            Key(f"text.select_{name}", f"shift+{key}", f"extend({action!r})", f"select: {what}",
                help=_SELECT, short="select tokens", synonyms="mark range highlight")
            for key, action, _, what, name in _MOVES
        ),
        *(
            Key(f"text.{way}_{name}", key, f"fork({kind!r}, {by})", f"{_WAYS[by]} {kind}",
                help=_FORK[name][1], short=_FORK[name][0], synonyms=_FORK[name][2])
            for pair, name, kind in zip(("uU", "oO", "sS"), _FORK, FORKS, strict=True)
            for key, by, way in ((pair[0], 1, "next"), (pair[1], -1, "last"))
        ),
        Key("text.most_surprising", "exclamation_mark", "most_surprising", "most surprising token",
            short="most surprising",
            help="Surprisal: go to the token with the lowest probability; press again for the "
                 "second lowest, and so on.",
            synonyms="surprisal surprising least likely improbable outlier rare top sort"),
        Key("text.next_mark", "b", "screen.next_mark", "next bookmark",
            help="Bookmark: go to the next one, in any branch.",
            synonyms="favourite mark jump"),
        Key("text.search", "slash", "screen.search", "search",
            help="Search: find words in the text; n and N then go to the next and the previous "
                 "match.",
            synonyms="find look grep words"),
        Key("text.found", "n", "screen.found(1)", "next match", short="match",
            help=_MATCH, synonyms="find again"),
        Key("text.found_last", "N", "screen.found(-1)", "previous match", short="match",
            help=_MATCH, synonyms="find again"),
    ),
    "Change": (
        Key("text.write_on", "enter", "screen.write_on", "continue at the end", short="continue",
            help="Generate: continue at the end of the text with what the prompt says, like Enter "
                 "in the prompt; Ctrl+G continues here.",
            synonyms="write generate go on more send"),
        *(
            Key(f"text.take_{n}", str(n), f"screen.take({n})", f"take candidate {n}",
                help=_TAKE, label="take", short="take candidate", show=n == 1,
                synonyms="choose pick alternative other instead steer number")
            for n in range(1, 10)
        ),
        Key("text.instead", "i", "screen.replace", "replace…", label="replace", show=True,
            help="Replace: type what should stand in the place of the selected tokens, or edit the "
                 "message of a chat; the model continues, and the old text stays as a branch.",
            synonyms="edit message instead change rewrite force type steer intervene"),
        Key("text.change", "I", "screen.change", "change and keep the rest…",
            short="change, keep rest",
            help="Edit: type what should stand here, and keep what comes after it; the model reads "
                 "it all again, so its probabilities are new. The old text stays as a branch.",
            synonyms="edit change word middle keep rest following insert correct counterfactual "
                     "prompt rewrite"),
        Key("text.draw_again", "r", "screen.draw_again", "draw this token again",
            short="draw again",
            help="Resample: draw this token once more with a new random number and continue; the "
                 "old text stays as a branch.",
            synonyms="resample reroll regenerate retry redo dice random again"),
        Key("text.answer_again", "R", "screen.answer_again", "write again",
            help="Again: sample everything after your last words (in a chat, the last answer) with "
                 "other random numbers; the old text stays as a branch.",
            synonyms="regenerate reroll retry redo chat reply response swipe again new"),
        Key("text.delete", "delete", "screen.delete", "delete from here", short="delete",
            help="Delete this token and everything after it; of several selected ones only these. "
                 "z brings it back.",
            synonyms="remove cut erase trim"),
        Key("text.undo", "z,ctrl+z", "screen.undo", "undo the latest step", short="undo",
            help="Undo: show the text before the latest step (z again: the new one), or bring back "
                 "what was deleted last.",
            synonyms="undo restore revert back recover"),
        Key("text.ban", "x", "screen.ban", "ban this token", short="ban",
            help="Ban: this token, or the text of several, is never sampled again (a logit bias of "
                 "minus infinity); press again to allow it.",
            synonyms="forbid block never bias exclude censor logit suppress"),
        Key("text.boost", "plus", "screen.boost(1)", "make this token more likely",
            short="more, less likely",
            help=_BOOST, synonyms="bias boost logit weight raise encourage probable"),
        Key("text.damp", "minus", "screen.boost(-1)", "make this token less likely",
            short="more, less likely",
            help=_BOOST, synonyms="bias damp logit weight lower discourage improbable"),
    ),
    "Look inside": (
        Key("text.inside", "e", "screen.layers", "layers: each layer's guess (logit lens)",
            label="layers", show=True,
            help="Logit lens: what each layer of the network would guess here, from the first to "
                 "the last.",
            synonyms="logit lens layer depth hidden states residual stream inside early exit "
                     "interpretability"),
        Key("text.attention", "a", "screen.attention", "colour by attention", short="attention",
            help="Attention: colour the text by where the heads of a layer look when the model "
                 "predicts this token.",
            synonyms="attention heads head look weights query key pattern interpretability"),
        Key("text.look", "L", "screen.inside", "look inside: lens grid, heads, logit parts…",
            short="grid, heads, mute…",
            help="Inside: the logit lens over the whole text, all heads, a logit's parts, what "
                 "mattered; and changes: mute a head or a layer (tab 7), patch, steer.",
            synonyms="logit lens grid layers heads attention induction work calculation q k v "
                     "direct logit attribution residual stream model architecture parameters "
                     "mechanistic interpretability intervention knock out ablation mute patch "
                     "patching causal tracing steer steering neighbours embedding analogy"),
        Key("text.whole", "K", "screen.whole_network", "undo the changes inside the network",
            short="undo changes",
            help="Interventions: end all changes inside the network, also those only tried, so "
                 "that the model writes as it is; what was written stays.",
            synonyms="intervention knock out ablation mute head steer steering edge reset clear "
                     "undo restore"),
        Key("text.owes", "E", "screen.attribution", "which earlier tokens mattered",
            short="influence",
            help="Attribution: colour earlier tokens by how much each raised or lowered the "
                 "probability of this one.",
            synonyms="attribution influence saliency importance cause why occlusion explain "
                     "interpretability"),
        Key("text.paths", "p", "screen.paths", "likely continuations (beam search)",
            short="likely paths",
            help="Beam search: the most probable continuations after this token, as a tree; "
                 "Enter uses one.",
            synonyms="beam search path future lookahead probable continuation"),
        Key("text.colours", "c", "colours", "change colouring", label="colours", show=True,
            help="Heat map: colour the tokens by probability, rank, entropy, or what the "
                 "settings changed.",
            synonyms="color colour heat map scale probability rank entropy uncertainty highlight"),
        Key("text.boxes", "g", "boxes", "show tokens as boxes", short="boxes",
            help="Tokenizer: draw every token as a box, so that you see how the text was cut.",
            synonyms="tokenizer tokenization bpe cut pieces boundaries borders grid split"),
        Key("text.next_panel", "full_stop", "screen.panel(1)", "next panel", short="next panel",
            help=_PANEL, synonyms="tab side view switch"),
        Key("text.last_panel", "comma", "screen.panel(-1)", "previous panel", short="next panel",
            help=_PANEL, synonyms="tab side view switch"),
    ),
    "Compare": (
        Key("text.compare", "v", "screen.compare", "compare with a second model",
            short="second model reads",
            help="Two models: a second one reads the same text; KL divergence shows where they "
                 "disagree.",
            synonyms="second model kl divergence difference disagreement versus diff side"),
        Key("text.what_if_beside", "w", "screen.what_if_second", "what a second model would write",
            short="second model writes",
            help="Two models: a second one continues with the same random seed and settings, "
                 "side by side.",
            synonyms="second model other seed versus diff continue"),
        Key("text.options", "k", "screen.options", "compare continuations", short="compare",
            help="Score: type continuations and see how probable the model finds each; Enter "
                 "uses one.",
            synonyms="score rank options choices probability multiple choice evaluate hypothesis"),
    ),
    "Keep": (
        Key("text.last", "left_square_bracket", "screen.branch(-1)", "previous branch",
            label="other branch", short="branch", show=True,
            help=BRANCH, synonyms=BRANCH_SYNONYMS),
        Key("text.next", "right_square_bracket", "screen.branch(1)", "next branch", short="branch",
            help=BRANCH, synonyms=BRANCH_SYNONYMS),
        Key("text.tree", "t", "screen.tree", "tree of branches",
            help=TREE, synonyms="branches forks versions history map overview alternatives star "
                                "name note"),
        Key("text.mark", "m", "screen.mark", "bookmark",
            help="Bookmark: set it at this token, or remove it; b goes to the next one.",
            synonyms="star favourite mark remember flag save"),
        Key("text.copy", "y", "screen.copy", "copy the text", short="copy",
            help="Copy the selected tokens, or else the whole text, to the clipboard of your "
                 "terminal.",
            synonyms="clipboard yank selection share"),
    ),
    "Program": (
        Key("text.all_keys", "space", "screen.all_keys", "all keys", show=True,
            help="Keys: show all of them by group in the lower part of the screen; the next key "
                 "acts.",
            synonyms="which-key menu leader shortcuts hotkeys overview list"),
        Key("text.help", "question_mark", "app.help", "help",
            help="Help: the same as F1; in the prompt and other fields ? is a letter.",
            synonyms="keys manual shortcuts glossary"),
        Key("text.presenter", "P", "screen.presenter", "presenter mode", short="presenter",
            help="Presenter mode, for a projector: the text, large bars, one token at a time.",
            synonyms="present projector lecture talk demo teach beamer zoom fullscreen"),
    ),
}
# fmt: on

IN_THE_TEXT = tuple(
    key._replace(place="in the text", group=group)
    for group, keys in _IN_THE_TEXT.items()
    for key in keys
)
"""In the order of the groups."""
