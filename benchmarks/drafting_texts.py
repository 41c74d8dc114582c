"""Prompts of benchmarks/drafting.py, by kind of text."""

from __future__ import annotations

HILL = """The old mill stood on a hill above the river. Every morning the miller climbed up,
opened the shutters and watched the boats. In spring the river rose until it touched the lowest
field, and the miller's daughter counted the days until the water went back."""
TEXTS = {
    "prose": (
        "The captain had not slept for three days when the lighthouse finally came into view.",
        "My grandmother kept her letters in a tin box under the bed. One winter evening",
        "It was the first market day after the war, and the square was full of people who",
    ),
    "repeats": (
        "Oh, the wind blows low and the wind blows high,\nRow, my brothers, row!\nThe stars are "
        "out in the northern sky,\nRow, my brothers, row!\n",
        "def test_add():\n    assert calculate('1 + 1') == 2\n\n\ndef test_subtract():\n"
        "    assert calculate('3 - 1') == 2\n\n\ndef test_multiply():\n",
        "| country | capital | continent |\n|---|---|---|\n| France | Paris | Europe |\n"
        "| Japan | Tokyo | Asia |\n| Kenya | Nairobi | Africa |\n",
    ),
    "quotes": (
        f"Correct the spelling and repeat the whole text:\n\n{HILL.replace('morning', 'mornign')}",
        f"Write this paragraph again, in the present tense:\n\n{HILL}",
        f"List the sentences of this text, one a line, with numbers:\n\n{HILL}",
    ),
    "chat": (
        "Why is the sky blue?",
        "How do I cook rice without a rice cooker? Explain it step by step.",
        "Give me advice for a first job interview.",
    ),
}
TURNS = ("quotes", "chat")
"""Kinds that are a person's turn in a conversation, if the model has a chat template."""
PLAYS = {
    "prose": ("ROMEO:\nWhat light is this", "KING RICHARD:\nMy lord, the", "Enter a messenger.\n"),
    "repeats": (
        "CHORUS:\nSing ho, the wind and the rain.\nSing ho, the wind and the rain.\n",
        "I had a kingdom, and I lost my crown;\nI had a father, and I lost my crown;\nI had",
        "First Citizen:\nSpeak, speak.\n\nSecond Citizen:\nSpeak, speak.\n\nThird Citizen:\n",
    ),
    "quotes": (
        "First Citizen:\nWhat says he of the king?\n\nSecond Citizen:\nHe says of the king",
        "JULIET:\nAnd is thy name not Montague?\n\nROMEO:\nMy name, my love, is",
        "Nurse:\nThe duke is banished, madam.\n\nJULIET:\nSay'st thou the duke",
    ),
}
"""For models of single characters with a short context."""
