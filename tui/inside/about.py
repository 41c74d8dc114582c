"""What the views of the inside show, and what their keys do, in sentences for the help."""

from __future__ import annotations

ABOUT = {
    "Lens": (
        "Rows are layers, columns are the tokens of the text. A cell is the token that the layer "
        "would predict for its column if it were the last one (logit lens). The text above has "
        "the colour of the chosen layer. The list has the ten best tokens of the cell under the "
        "cursor."
    ),
    "Heads": (
        "A strip for each head, layers down, heads across: how much attention it pays to each "
        "token of the context, from the position where the selected token is predicted; heights "
        "are the square root of the weight. Next to them is what the chosen head looks at most, 0 "
        "for that position itself and −1 for the token before it, and what kind of head it is."
    ),
    "Q·K·V": (
        "The whole calculation of one head, a row for each token: query times key, the same "
        "scaled, the weight after the softmax, the length of the value. Below are the weighted sum "
        "of the values and what the head adds to the residual stream."
    ),
    "Logit": (
        "The logit of the selected token as a sum: a bar for the share that each part of the "
        "network wrote, in nats. Against another token: the shares of its lead."
    ),
    "Model": (
        "The network from the embedding to the output: the shape and the number of parameters of "
        "each weight, and how long the residual stream is after each layer."
    ),
    "Input": (
        "A row for each earlier token: by how many bits it raised log P of the selected one, by "
        "three measures; the text has the colour of one of them. −1 is the token before the "
        "position where the selected one is predicted."
    ),
    "Mute": (
        "A switch for each layer, its attention, its heads and its MLP: ● on, ○ muted, ◐ replaced "
        "by its mean. The text has the colour of what that changes: the KL divergence of each "
        "token, in bits."
    ),
    "Patch": (
        "Rows are layers, columns are tokens. A cell says how far the prediction goes from this "
        "text (0) to another one (1) if this single state is that of the other text."
    ),
    "Steer": (
        "A direction, from one list of texts to another, is added to the residual stream at every "
        "token. The text has the colour of what that changes: the KL divergence of each token, in "
        "bits."
    ),
    "Words": (
        "The tokens whose vectors are most like that of the selected one, by cosine and by dot "
        "product; or near a sum of vectors; or as points on a plane."
    ),
}
"""Name of a view → what is on the screen."""
_WRITE = "Interventions: let the model write with these changes from now on."
_OTHER = "Difference of logits: compare the selected token with the next or previous candidate."
_HEAD = "Attention: choose the next or the previous head, through all layers."
_PART = "Knock-out: choose the next or the previous part of the layer."
_CELL = "Cursor: choose the next or the previous cell of the row."
_LINE = "Scroll by a row."
_PAGE = "Scroll by a page."
_SELECTS = "Cursor: select another token of the text; the view shows the position that predicts it."
_LAYER = "Cursor: choose the layer below or above, or another row."
_VIEW = "View: show the next or the previous one; the digits show each."
KEYS = {
    "inside_screen.left": _SELECTS,
    "inside_screen.right": _SELECTS,
    "inside_screen.first": _SELECTS,
    "inside_screen.newest": _SELECTS,
    "inside_screen.up": _LAYER,
    "inside_screen.down": _LAYER,
    "inside_screen.next": _VIEW,
    "inside_screen.last": _VIEW,
    "inside_screen.whole": "Interventions: let the whole network write again.",
    "inside_screen.help": "Help: what is on the screen and what every key does, as F1.",
    "inside_screen.back": "Stop the model if it is still computing; else go back to the text.",
    "look.page_down": _PAGE,
    "look.page_up": _PAGE,
    "look.line_down": _LINE,
    "look.line_up": _LINE,
    "look.colour": "Heat: colour the text by another number of the chosen layer.",
    "look.middle": "Logit lens: show rows between attention and MLP as well, or hide them.",
    "look.next_head": _HEAD,
    "look.last_head": _HEAD,
    "look.sort": "Kinds of heads: sort the heads by their score of the next kind.",
    "look.define": "Kinds of heads: say how each score is computed.",
    "look.by_weight": "Attention: sort the tokens by weight, or as in the text.",
    "look.versus": _OTHER,
    "look.last_versus": _OTHER,
    "look.by_size": "Parts of the logit: the largest first, or in the order of the network.",
    "look.measure": "Influence: colour and sort by the next measure.",
    "look.by_influence": "Influence: the largest first, or as in the text.",
    "look.write_with": _WRITE,
    "look.clear": "Interventions: undo all of this view, also what the model writes with.",
    "look.switch": "Knock-out: mute the chosen part, then replace it by its mean, then turn it on.",
    "look.next_part": _PART,
    "look.last_part": _PART,
    "look.edge": (
        "Attention: hide a token from another one. Press it at the first token, then at the "
        "second one; twice at the same token hides it from all later ones."
    ),
    "look.other_text": "Activation patching: type the other text.",
    "look.other_branch": "Activation patching: take the next branch of this text as the other one.",
    "look.row_up": _LAYER,
    "look.row_down": _LAYER,
    "look.next_cell": _CELL,
    "look.last_cell": _CELL,
    "look.texts": "Direction: type the texts that it leads to and those that it leads away from.",
    "look.stronger": "Direction: add more of it.",
    "look.weaker": "Direction: add less of it; below 0 it points the other way.",
    "look.over": "Direction: made from the last token of each text, or from the mean of all.",
    "look.matrix": "Vectors: of the embedding, the output matrix, or the learned positions.",
    "look.analogy": "Analogy: type three texts, and see what is near the first − second + third.",
    "look.plane": "Vectors: tokens as points on a plane (principal components), or a list again.",
    "look.plane_tokens": "Vectors: type the tokens that are points on the plane.",
    "look.near": "Vectors: show what is near the selected token again.",
}
"""Id of a key → what it does; keys that do the same in two directions share a sentence."""
