"""The interface in the terminal. It never imports torch. Bad input raises UserError."""
