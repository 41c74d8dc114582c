"""The same step as machine code or as one CUDA graph; nothing here changes a result."""
