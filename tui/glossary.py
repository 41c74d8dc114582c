"""The words of the field, each in a sentence or two, with the paper that an idea comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word and what it means."""

    name: str
    meaning: str
    synonyms: str = ""
    """More words by which people look for it, separated by spaces."""
    source: str = ""
    """The paper, talk or code where it was first described."""


# fmt: off
TERMS = (
    Term("token",
        "A piece of text that the model reads and writes as one unit: a word, a part of a word, a "
        "character or a byte. The model knows it only by a number, its id.",
        "piece word id unit"),
    Term("vocabulary",
        "All tokens that a model knows, from a few dozen characters to more than 100,000 pieces "
        "of words.",
        "tokens size"),
    Term("tokenizer",
        "Cuts a text into tokens and joins tokens to a text. Every model has its own, and another "
        "one cuts the same text in other places.",
        "tokenization encode decode cut"),
    Term("BPE",
        "Byte-pair encoding, a way to make a vocabulary: start with single bytes or characters, "
        "and join the pair that is most frequent, again and again. Common words become one "
        "token, rare ones several.",
        "byte pair encoding merges subword tokenizer",
        "Sennrich, Haddow and Birch 2016, arXiv:1508.07909"),
    Term("logit",
        "The number that the network gives to a token, from minus to plus infinity. Softmax makes "
        "probabilities of them; one nat more multiplies the odds of a token by e, about 2.7.",
        "score output"),
    Term("softmax",
        "Makes probabilities of numbers: exp of each, divided by the sum of all of them. For the "
        "next token the numbers are the logits of the whole vocabulary; in attention they are the "
        "scores of the tokens up to this one.",
        "normalise distribution",
        "Bridle 1990, Neurocomputing"),
    Term("probability",
        "How much of 100 % the model gives to a token as the next one, given all tokens before it. "
        "The probabilities of the whole vocabulary add up to 100 %.",
        "p percent chance likelihood odds"),
    Term("odds",
        "A probability divided by that of everything else: 20 % are odds of 1 to 4.",
        "ratio chance probability"),
    Term("log-probability",
        "The logarithm of a probability: 0 for a certain token, and more negative the less likely "
        "it is. The log-probabilities of all tokens add up to that of the text.",
        "logprob log likelihood"),
    Term("nat",
        "The unit of information with the natural logarithm. 1 nat is 1.44 bits.",
        "unit information natural logarithm"),
    Term("bit",
        "The unit of information: the answer to a yes-or-no question when both are equally "
        "likely. A token with probability 1/8 costs 3 bits. 1 bit is 0.69 nats.",
        "unit information shannon",
        "Shannon 1948, A Mathematical Theory of Communication"),
    Term("surprisal",
        "Minus the logarithm of the probability of the token that came, in bits or nats: 0 bits "
        "for a certain token, 1 bit for 50 %, 10 bits for 0.1 %.",
        "surprise information content self-information unexpected",
        "Shannon 1948, A Mathematical Theory of Communication"),
    Term("entropy",
        "The surprisal that the model expects before it knows the next token: the mean over all "
        "tokens, weighted by their probabilities. High entropy means that it is uncertain. It is "
        "shown in nats, of which 1 is 1.44 bits, and as so many tokens that are equally likely.",
        "uncertainty unsure expected surprise",
        "Shannon 1948, A Mathematical Theory of Communication"),
    Term("equally likely",
        "The entropy as a number of tokens: exp of it in nats. At 4, the model is as uncertain as "
        "in a fair choice among 4 tokens. ≥ means at least this many: a server shows only the "
        "best candidates.",
        "effective number choices branching uncertainty perplexity"),
    Term("perplexity",
        "exp of the mean surprisal in nats over the tokens of a text: as if each token were a fair "
        "choice among this many. It is 2 raised to the bits per token: 3 bits are a "
        "perplexity of 8. Lower means that the model predicts the text better. Models with "
        "different tokenizers cannot be compared by it.",
        "ppl loss score quality bits a token average",
        "Jelinek, Mercer, Bahl and Baker 1977"),
    Term("bits per byte",
        "The surprisal of a text in bits, divided by its bytes. Unlike perplexity, it compares "
        "models with different tokenizers.",
        "bpb bits per character compression"),
    Term("cross-entropy",
        "The mean surprisal of the tokens that really came. Training makes it smaller, so it is "
        "also called the loss.",
        "loss training nll negative log likelihood"),
    Term("rank",
        "The place of a token when all are ordered by probability: 1 is the model's first choice.",
        "order place position top"),
    Term("candidate",
        "A token that could have come at a place. The panel lists the most probable ones; a digit "
        "takes one and continues from there.",
        "alternative option top choices"),
    Term("sampling",
        "Drawing the next token at random, each with its probability after the settings. It is "
        "repeated for every token of a run.",
        "draw random generate decoding"),
    Term("temperature",
        "Divides the logits before softmax. Below 1, probable tokens become still more probable; "
        "above 1, all become more alike; at 0, the most probable token is always taken.",
        "creativity randomness heat setting",
        "Ackley, Hinton and Sejnowski 1985, A Learning Algorithm for Boltzmann Machines"),
    Term("greedy",
        "Always taking the most probable token, which is temperature 0. It needs no random "
        "numbers, and often ends in repetition.",
        "argmax deterministic temperature zero"),
    Term("top-k",
        "Keeps only the k most probable tokens; the others cannot be drawn.",
        "topk truncation setting cut",
        "Fan, Lewis and Dauphin 2018, arXiv:1805.04833"),
    Term("top-p",
        "Keeps the fewest tokens whose probabilities add up to at least p, the nucleus: few if the "
        "model is certain, many if it is not.",
        "topp nucleus truncation setting cut",
        "Holtzman, Buys, Du, Forbes and Choi 2020, arXiv:1904.09751"),
    Term("min-p",
        "Keeps tokens with at least this share of the probability of the best one: at 0.1, a token "
        "needs a tenth of it.",
        "minp truncation setting cut",
        "Nguyen and others 2024, arXiv:2407.01082"),
    Term("repetition penalty",
        "Makes tokens that are already in the text less likely: a positive logit is divided by it, "
        "a negative one multiplied. 1 changes nothing.",
        "repeat loop frequency presence setting",
        "Keskar and others 2019, CTRL, arXiv:1909.05858"),
    Term("presence penalty",
        "Subtracted from the logit of each token that is already in the text, however often. Below "
        "0, it makes repetition more likely.",
        "presence repeat novelty openai setting"),
    Term("frequency penalty",
        "Subtracted from the logit of a token once for each time that it is in the text, so that "
        "words wear out.",
        "frequency count repeat openai setting"),
    Term("window",
        "How many tokens at the end of the text a penalty looks at. 0 means all of them.",
        "last n penalty window setting"),
    Term("DRY",
        "Don't repeat yourself: if the text ends with tokens that stood there before, the token "
        "that came after them then becomes less likely, the more of them the less. It stops loops "
        "and leaves single words alone.",
        "repeat loop repetition penalty base length window sequence breakers setting",
        "p-e-w 2024, text-generation-webui"),
    Term("dynamic temperature",
        "A temperature that follows the entropy: lower where the model is certain, higher where it "
        "is not.",
        "dynatemp dynamic range exponent entropy setting",
        "kalomaze 2023, koboldcpp"),
    Term("n-sigma",
        "Top-n-sigma keeps the tokens whose logit is at most n standard deviations of all logits "
        "below the best one. A temperature does not change which these are.",
        "top-n-sigma nsigma standard deviation truncation setting cut",
        "Tang and others 2024, arXiv:2411.07641"),
    Term("typical-p",
        "Keeps the tokens whose surprisal is nearest to the entropy, as few as reach this "
        "probability: neither too obvious nor too strange.",
        "typical locally typical sampling truncation setting cut",
        "Meister, Pimentel, Wiher and Cotterell 2022, arXiv:2202.00666"),
    Term("XTC",
        "Exclude top choices: now and then, it removes all tokens that reach a threshold except "
        "the least probable of them. So the text leaves the most usual path, but stays sensible.",
        "exclude top choices from threshold creative setting cut",
        "p-e-w 2024, text-generation-webui"),
    Term("mirostat",
        "Mirostat 2 keeps the surprisal of the text near a target. It allows tokens of up to mu "
        "bits, and moves mu after each token: down after a surprising one, up after a dull one.",
        "tau η eta mu target surprise perplexity setting",
        "Basu, Ramachandran, Keskar and Varshney 2021, arXiv:2007.14966"),
    Term("order",
        "The settings act one after another, and their order matters: a high temperature before "
        "min-p lets more tokens pass than after it.",
        "sampler order stages sequence"),
    Term("logit bias",
        "A number that you add to the logit of a token, to make it more or less likely. Minus "
        "infinity bans the token.",
        "boost ban steer"),
    Term("seed",
        "The number from which all randomness of a run follows. The same seed, model, text and "
        "settings give the same result again.",
        "random dice noise repeat reproducible"),
    Term("noise",
        "The random number that each token gets from the seed at each position. The token with "
        "the highest sum of log-probability and noise is drawn, so two runs with one seed differ "
        "only where what you changed made a difference.",
        "gumbel-max gumbel random dice counterfactual",
        "Gumbel 1954; Oberst and Sontag 2019, arXiv:1905.05824"),
    Term("what if",
        "A counterfactual: what the model would have written at another setting, with the same "
        "random numbers.",
        "counterfactual same seed",
        "Oberst and Sontag 2019, arXiv:1905.05824"),
    Term("prompt",
        "The text that you write and the model continues.",
        "opening line input beginning"),
    Term("length",
        "The most tokens of one run. A run also ends when the model says that the text is over, or "
        "when the context window is full.",
        "max tokens number run stop"),
    Term("context window",
        "The most tokens that the model can read at once. It does not know what stands before "
        "them. When it is full, the model stops; Enter then goes on without the oldest tokens, as "
        "\"Slide context when full\" at the end of the panel Sampling does by itself.",
        "context length block size memory slide full"),
    Term("KV cache",
        "The keys and values of all tokens that were read, kept by every layer. With it a new "
        "token costs one step of the network and not a new reading of the whole text.",
        "key value cache memory speed past"),
    Term("transformer",
        "The network of today's language models: layers of attention and feed-forward parts that "
        "all add to one residual stream.",
        "gpt network architecture model",
        "Vaswani and others 2017, Attention Is All You Need, arXiv:1706.03762"),
    Term("parameter",
        "One of the numbers that training has found. Their count is the size of a model.",
        "weights size billion"),
    Term("embedding",
        "The vector with which a token enters the network, one for each token of the vocabulary.",
        "vector wte input"),
    Term("layer",
        "One step of the network: attention, then a feed-forward part. A model has from a few to "
        "over a hundred, one after another.",
        "block depth transformer"),
    Term("attention",
        "The part of a layer by which a token takes information from itself and the tokens before "
        "it. Its weights say how much from each, and add up to 1.",
        "weights query key value look",
        "Bahdanau, Cho and Bengio 2014, arXiv:1409.0473; Vaswani and others 2017, "
        "arXiv:1706.03762"),
    Term("head",
        "One of several attentions that work side by side in a layer, each with its own weights, "
        "so that it can look for something of its own.",
        "attention multi-head",
        "Vaswani and others 2017, arXiv:1706.03762"),
    Term("feed-forward",
        "The part of a layer that works on each token alone; most parameters of a large model are "
        "in it.",
        "mlp ffn neurons"),
    Term("residual",
        "The stream of vectors that runs through all layers: each layer reads it and adds its "
        "result. What arrives at the end becomes the logits.",
        "residual stream skip connection hidden state",
        "He, Zhang, Ren and Sun 2015, arXiv:1512.03385; Elhage and others 2021, A Mathematical "
        "Framework for Transformer Circuits"),
    Term("logit lens",
        "Reads the residual stream after each layer as if it were the last one, and so shows how a "
        "guess is formed. Early layers were never trained to be read like this.",
        "layers guess interpretability early",
        "nostalgebraist 2020, Interpreting GPT: the logit lens"),
    Term("query, key, value",
        "Three vectors that a head makes of each token. The query of a token times the key of an "
        "earlier one says how much it looks there; the value is what it takes from there.",
        "q k v query key value attention vector dot product",
        "Vaswani and others 2017, arXiv:1706.03762"),
    Term("induction head",
        "A head that looks for an earlier place with the same token and then at what came after "
        "it, so that the model can repeat what it has read. Other known kinds look at the token "
        "right before, at the first token, or at earlier tokens that are the same.",
        "induction previous first duplicate kind copy repeat in-context",
        "Olsson and others 2022, arXiv:2209.11895"),
    Term("direct logit attribution",
        "A logit as a sum of what the embedding, each head and each feed-forward part have written "
        "into the residual stream, with the scale of the last norm kept as it is.",
        "dla why parts logit difference decomposition contribution",
        "Elhage and others 2021, A Mathematical Framework for Transformer Circuits"),
    Term("attribution",
        "How much an earlier token raised or lowered the probability of a later one. Here the text "
        "is read again without that token (occlusion).",
        "influence saliency occlusion cause mattered",
        "Zeiler and Fergus 2013, arXiv:1311.2901"),
    Term("knock-out",
        "Turns a part of the network off, or puts its mean over the text in its place, to see what "
        "the part did. An edge that is cut hides one token from another. Look inside (L), tab 7. "
        "In the text a green first letter shows where another network begins to write.",
        "ablation mute zero mean head layer mlp edge intervention switch lesion changed network "
        "green letter seam",
        "Geva and others 2023, arXiv:2304.14767"),
    Term("activation patching",
        "Puts the residual stream of another text into this one, at one layer and one token. Where "
        "that alone changes the prediction, the network carries what the texts differ in.",
        "patch causal tracing interchange intervention localize",
        "Vig and others 2020, arXiv:2004.12265; Meng and others 2022, arXiv:2202.05262"),
    Term("steering",
        "Adds a direction to the residual stream of every token: the difference between the means "
        "of two lists of texts, such as love and hate.",
        "activation addition vector direction representation engineering control",
        "Turner and others 2023, arXiv:2308.10248; Rimsky and others 2024, arXiv:2312.06681"),
    Term("cosine",
        "How alike two vectors point, from −1 to 1; 1 is the same direction. The dot product also "
        "grows with their lengths.",
        "similarity neighbour nearest embedding dot product analogy vector",
        "Mikolov and others 2013, arXiv:1301.3781"),
    Term("KL divergence",
        "How far one distribution is from another: the bits that are lost on average if a text "
        "from the first is predicted with the second. 0 only if both are the same.",
        "kullback leibler relative entropy disagreement difference",
        "Kullback and Leibler 1951, On Information and Sufficiency"),
    Term("beam search",
        "Keeps the few most probable continuations at every length and extends only these. It "
        "finds likely texts, but not always the most likely one.",
        "likely continuations paths",
        "Lowerre 1976, The Harpy Speech Recognition System"),
    Term("branch",
        "One continuation of a text among others. All are kept in a tree, and nothing is lost when "
        "you try something else. To write several at once, set \"branches\" in the panel Sampling.",
        "fork tree version alternative several"),
    Term("base model",
        "A model that was trained only to continue texts. It does not answer questions unless the "
        "text before looks as if an answer followed.",
        "pretrained foundation instruct chat"),
    Term("chat template",
        "The words or tokens that mark who speaks, put around your messages. A model that was "
        "trained with one ends its turn by itself.",
        "conversation turns instruct message role"),
    Term("author",
        "Who wrote a token: you or the system prompt (italic), the chat template (grey), or the "
        "model. The Token panel says so too.",
        "who wrote written by person user template model system prompt your text typed taken "
        "italic grey"),
    Term("fine-tuning",
        "Training a finished model a little more, on other texts or on conversations.",
        "finetune instruct train sft"),
    Term("checkpoint",
        "The files of a trained model: its parameters, its configuration and its tokenizer.",
        "weights file safetensors model"),
    Term("dtype",
        "The number format of the parameters: float32 has 32 bits, float16 and bfloat16 have 16, "
        "int8 has 8, int4 has 4. Fewer bits are faster and need less memory, and they change the "
        "model's numbers a little: the status line says how much.",
        "precision float16 bfloat16 float32 half number format"),
    Term("int8",
        "Parameters as whole numbers from -127 to 127, with a scale for each group of them; a few "
        "that meet the largest activations keep 16 bits. A quarter of the memory of float32, at a "
        "small loss. int4 has 16 values instead, and loses much more.",
        "quantization quantize 8-bit packed int4 4-bit",
        "Dettmers, Lewis, Belkada and Zettlemoyer 2022, arXiv:2208.07339"),
)
# fmt: on


def term(name: str) -> Term | None:
    """The term with this name, in any case; None if there is none."""
    return next((each for each in TERMS if each.name.lower() == name.strip().lower()), None)
