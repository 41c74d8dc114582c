"""The interface in the terminal. It never imports torch. Bad input raises UserError."""

import os

# Read when Textual is imported: how much of its contrast, in percent, a dim letter keeps. With
# less than this, dim letters are hard to read in most themes.
os.environ.setdefault("TEXTUAL_DIM_FACTOR", "85")
