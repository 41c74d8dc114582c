"""One token's step as machine code or as a CUDA graph; results stay the same."""
