"""A model at a server: vLLM, SGLang, llama.cpp, or another one that speaks OpenAI's completions.

It imports neither torch nor NumPy, so that the first token does not wait for them. Everything that
a server sends is checked. Functions raise UserError for all that can go wrong there.
"""
