"""Train a network on a text and measure how well it predicts text."""
