"""The table of keys that act anywhere and in the prompt."""

from __future__ import annotations

from tui.key import BRANCH, BRANCH_SYNONYMS, PAGE, TREE, Key

# A key takes a line or two each for what it is, for its sentence, and for the words that find it.
# fmt: off
EVERYWHERE = (
    Key("models", "ctrl+o", "models", "models", show=True, group="Program",
        help="Model: load another one from a list that says what each is; it then reads the text "
             "on the screen.",
        synonyms="load open change switch checkpoint gpt2 gpt llm network weights size "
                 "parameters card"),
    Key("restart", "ctrl+r", "restart", "restart the engine if it crashed",
        group="Program", short="restart engine",
        help="Engine: start the process that runs the model again if it crashed; your text stays.",
        synonyms="crash reload hang stuck process recover"),
    Key("what_if", "f8", "what_if", "what if: the same random seed with these settings",
        group="Compare", short="what if",
        help="Counterfactual: sample again from this token (at the end, from where the model "
             "began) with the same random seed and the settings on the screen, side by side.",
        synonyms="counterfactual resample rerun dice noise temperature settings again differ "
                 "effect"),
    Key("waterfall", "f2", "waterfall", "how each setting changes the probabilities",
        show=True, label="effects", group="Look inside",
        help="Sampling: what temperature, top-k, top-p and the other settings each do to the "
             "probability of every candidate.",
        synonyms="effect odds temperature topk top-k topp top-p nucleus minp min-p penalty "
                 "repetition waterfall distribution softmax sampling settings probability"),
    Key("preset", "f9", "preset", "presets of the sampling settings",
        group="Change", short="preset",
        help="Sampling settings: choose a preset: greedy, careful, balanced, wild, or the "
             "model's own distribution.",
        synonyms="temperature bold daring greedy creative random deterministic careful wild "
                 "balanced dial configure"),
    Key("measures", "f5", "lines", "numbers of each line", group="Look inside", short="lines",
        help="Perplexity of each line, with its bits and bits per byte: where the text was easy "
             "or hard for the model.",
        synonyms="perplexity bits byte loss score entropy cross-entropy nats statistics table "
                 "measure compression"),
    Key("go_on", "ctrl+g", "go_on", "continue from here",
        show=True, label="continue", group="Change",
        help="Generate: continue after this token with what the prompt says; the old "
             "continuation stays as a branch.",
        synonyms="generate write run complete resume more sample go on predict"),
    Key("next_branch", "ctrl+b", "branch(1)", "next branch",
        show=True, group="Keep", short="branch",
        help=BRANCH, synonyms=BRANCH_SYNONYMS),
    Key("tree", "ctrl+t", "tree", "tree of branches", group="Keep",
        help=TREE, synonyms="branches forks versions history map overview alternatives star name "
                            "note"),
    Key("texts", "f3", "texts", "texts", show=True, group="Keep",
        help="Texts: open another one; every text saves itself, with all its branches.",
        synonyms="open file load save saved autosave library resume history documents recent"),
    Key("read_file", "f10", "read_file", "read a text file", group="Look inside",
        short="read a file",
        help="Score: let the model read a text file of yours, and see its perplexity and the "
             "probability of each token.",
        synonyms="score open load measure perplexity evaluate file text import"),
    Key("export", "f4", "export", "export", group="Keep",
        help="Export: write the text to a file: plain text, Markdown, a web page with the "
             "candidates, JSON or a picture.",
        synonyms="save file write download html markdown json svg txt share publish picture "
                 "print"),
    Key("stop", "escape", "home", "stop", show=True, group="Program",
        help="Stop the model within one token, and the text stays; else close what is open, else "
             "go to the prompt.",
        synonyms="cancel abort halt interrupt back close home prompt"),
    Key("interrupt", "ctrl+c", "interrupt", "stop, or copy the selection",
        priority=True, group="Program", short="stop, copy",
        help="Stop the model within one token; if it is not writing, copy the selected tokens.",
        synonyms="cancel abort halt interrupt clipboard"),
    Key("new_text", "ctrl+n", "new_text", "new text", show=True, group="Keep",
        help="Text: start an empty one; the text on the screen is saved.",
        synonyms="clear empty start begin fresh reset document"),
    Key("help", "f1", "app.help", "help", group="Program",
        help="Help: all keys and a glossary of the field's words, with a search over both.",
        synonyms="keys manual shortcuts hotkeys glossary documentation what meaning explain "
                 "tutorial"),
    # TextArea has the next two keys for itself, so they need priority.
    Key("preferences", "f6", "preferences", "preferences", priority=True, group="Program",
        help="Preferences: theme, colours of the heat map, marks for people who do not see "
             "colours, first settings, and every key.",
        synonyms="dark light theme colour color colour-blind contrast heat map keys shortcuts "
                 "hotkeys settings options configure"),
    Key("editor", "f7", "editor", "edit the prompt in your editor",
        priority=True, group="Change", short="edit prompt",
        help="Prompt: edit it in the program that $EDITOR names, for a long text.",
        synonyms="vim nano emacs external long paste write"),
    Key("jump", "ctrl+l", "jump", "go to a part of the screen", group="Move", short="go to a panel",
        help="Focus: a letter appears on each part of the screen; press it to go there.",
        synonyms="focus go panel settings field navigate chat temperature seed"),
    Key("page_up", "pageup", "page(-1)", "page up",
        group="Move", short="scroll", help=PAGE, synonyms="scroll"),
    Key("page_down", "pagedown", "page(1)", "page down",
        group="Move", short="scroll", help=PAGE, synonyms="scroll"),
)

QUIT = Key("quit", "ctrl+q", "app.quit", "quit", show=True, priority=True, group="Program",
           help="Quit: the text is saved, and `gpt-tui --last` opens it again.",
           synonyms="exit leave close end")
PALETTE = Key("palette", "ctrl+p", "app.command_palette", "all commands",
              priority=True, group="Program", short="commands",
              help="Palette: find any command, setting, theme or word of the glossary by typing "
                   "a part of it.",
              synonyms="search find commands actions menu theme dark light")
PROGRAM = (QUIT, PALETTE)
"""Keys that belong to the program and act on every screen."""

_IN_THE_PROMPT = (
    Key("prompt.send", "enter", "send", "send", show=True, group="Change",
        help="Generate: append your text and let the model continue; with an empty prompt, just "
             "continue.",
        synonyms="generate run submit write chat message complete answer go continue"),
    # It acts before the next key is read, which may come with it and is meant for the text.
    Key("prompt.leave", "tab,shift+tab", "screen.to_text", "go into the text", label="text",
        show=True, priority=True, group="Move",
        help="Focus: go from the prompt into the text, where every token can be opened.",
        synonyms="focus leave next token open"),
    Key("prompt.line_break", "ctrl+j,shift+enter,alt+enter", "line_break", "line break",
        show=True, group="Change",
        help="Line break in the prompt: Enter alone sends.",
        synonyms="newline paragraph multi-line return"),
    Key("prompt.special", "ctrl+s", "screen.special_token", "insert a special token",
        group="Change", short="special token",
        help="Special token: choose one of the model's from a list; in the prompt it is that "
             "token, while its letters typed by hand stay letters.",
        synonyms="bos eos eot end of text turn im_start control template token insert"),
    Key("prompt.page_up", "pageup", "page(-1)", "page up",
        group="Move", short="scroll", help=PAGE, synonyms="scroll"),
    Key("prompt.page_down", "pagedown", "page(1)", "page down",
        group="Move", short="scroll", help=PAGE, synonyms="scroll"),
)
# fmt: on

IN_THE_PROMPT = tuple(key._replace(place="in the prompt") for key in _IN_THE_PROMPT)
