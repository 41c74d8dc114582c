"""Chat templates in the styles that are in use, and tiny tokenizers with special tokens."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a bird.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA_2 = """
{%- if messages[0]['role'] == 'system' -%}
    {%- set told = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
    {%- set rest = messages[1:] %}
{%- else -%}
    {%- set told, rest = '', messages %}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('the roles must alternate') -}}
    {%- endif -%}
    {%- set text = (told if loop.first else '') + message['content'] -%}
    {%- if message['role'] == 'user' -%}
        {{- bos_token + '[INST] ' + text.strip() + ' [/INST]' -}}
    {%- else -%}
        {{- ' ' + text.strip() + ' ' + eos_token -}}
    {%- endif -%}
{%- endfor -%}
"""
LLAMA_3 = """
{%- set ns = namespace(n=0) -%}
{{- bos_token -}}
{%- for message in messages %}
    {%- set ns.n = ns.n + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{% generation %}{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endgeneration %}{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant are supported') }}{% endif %}"
    "{% endfor %}"
)
ALPACA = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n"
    "{% else %}### {{ message.role | capitalize }}:\n{{ message.content }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
TURNS = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
TEMPLATES = {
    "chatml": CHATML,
    "llama 2": LLAMA_2,
    "llama 3": LLAMA_3,
    "zephyr": ZEPHYR,
    "mistral": MISTRAL,
    "alpaca": ALPACA,
    "turns": TURNS,
}
WITHOUT_SYSTEM = {"mistral"}
"""Templates that refuse a system prompt."""
SPECIAL = (
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
WORDS = "a bird who are you system user assistant hello there You fine thanks and ".split()


def _add(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("  ", special=False)])
    return tokenizer


def byte_level(digits: bool = True) -> Tokenizer:
    """Byte pairs with a few merges, digits one by one as SmolLM2 has them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs: list[tuple[str, str]] = []
    for word in [*WORDS, "ĊĊ", "ĠĠ"]:
        for prefix in ("", "Ġ"):
            parts = list(prefix + word)
            while len(parts) > 1:
                if (parts[0], parts[1]) not in pairs:
                    pairs.append((parts[0], parts[1]))
                parts[:2] = [parts[0] + parts[1]]
    names = dict.fromkeys([*letters, *(a + b for a, b in pairs)])
    tokenizer = Tokenizer(models.BPE(vocab={n: i for i, n in enumerate(names)}, merges=pairs))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
        if digits
        else level
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _add(tokenizer)


def sentence_piece(legacy: bool) -> Tokenizer:
    """Pieces with byte fallback, as Llama 2 (legacy) and Mistral have them."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pairs: list[tuple[str, str]] = []
    for word in WORDS:
        pieces += [letter for letter in word if letter not in pieces]
        parts = list("▁" + word)
        while len(parts) > 1:
            if (parts[0], parts[1]) not in pairs:
                pairs.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    pieces += [a + b for a, b in pairs]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.BPE(vocab, pairs, unk_token=pieces[0], byte_fallback=True, fuse_unk=True)
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _add(tokenizer)


def theirs(tokenizer: Tokenizer, template: str = CHATML) -> Any:
    """The same tokenizer in transformers, with a template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **TOKENS,
    )


def messages(*contents: str, system: str = "") -> list[dict[str, str]]:
    """What the person and the model say in turn."""
    told = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return told + [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]
