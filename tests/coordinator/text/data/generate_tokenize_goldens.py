"""Writes tokenize_goldens.json: random mixed text and its ids from PyPI's `tokenizers`, for SmolLM2's
vocabulary under the pre-tokenizers of several families, and for Gemma 3's in a tokenizer.json's form.
Run: python3 generate_tokenize_goldens.py SMOLLM2.gguf GEMMA3.gguf (needs gguf and tokenizers)."""

import json
import pathlib
import random
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CONTROL, USER_DEFINED = 3, 4

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

WORDS = ("the of hello World don't I'LL we've 'S 's na\u00efve stra\u00dfe \u0395\u03bb\u03bb\u03ac\u03b4\u03b1 "
         "\u043f\u0440\u0438\u0432\u0435\u0442 \u3053\u3093\u306b\u3061\u306f \u4e16\u754c \ud55c\uad6d\uc5b4 "
         "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u0639\u0631\u0628\u0649 12 345678 3.14 \u00bd \u2167 "
         "foo_bar() a+=b; #include <x> {\"k\":1} http://a.b/c?d=e&f <|im_start|> <|im_end|> "
         "<start_of_turn> <eos> <table> e\u0301 o\u0308\u0323 \u1100\u1161\u11a8 \ufb01 \u212b").split(" ")
SEPARATORS = [" "] * 12 + ["  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u3000", "\u2028",
                           "\u200b", "\u180e", "\u0085", "\x0b", "", "", ".", ", ", "! ", "\u2014", "'",
                           "\u2581", "\n\n\n\n", "     ", "\x00"]


def read(path):
    fields = GGUFReader(path).fields
    return lambda key: fields[f"tokenizer.ggml.{key}"].contents()


def with_special_tokens(tokenizer, tokens, types):
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, types) if kind == CONTROL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)
                          for token, kind in zip(tokens, types) if kind == USER_DEFINED])
    return tokenizer


def smollm2(path):
    field = read(path)
    tokens, types = field("tokens"), field("token_type")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    byte_level = lambda use_regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    split = lambda pattern: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(False)])
    variants = {
        "smollm": (pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level(True)]), {}),
        "gpt-2": (byte_level(True), {}),
        "llama-bpe": (split(LLAMA3), {"ignore_merges": True}),
        "qwen2": (split(QWEN2), {}),
        "tekken": (split(TEKKEN), {"ignore_merges": True}),
    }
    for name, (pre_tokenizer, options) in variants.items():
        vocabulary = {token: i for i, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **options))
        tokenizer.pre_tokenizer = pre_tokenizer
        if name == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        yield name, with_special_tokens(tokenizer, tokens, types)


def gemma3(path):
    """Merges are made of the scores; those of user-defined runs of spaces and newlines come first, as
    in the model's own tokenizer.json."""
    field = read(path)
    types, scores = field("token_type"), field("scores")
    tokens = [token if kind == CONTROL else token.replace(" ", "\u2581")
              for token, kind in zip(field("tokens"), types)]
    ids = {token: i for i, token in enumerate(tokens) if types[i] in (1, USER_DEFINED)}
    merges = []
    for token, i in ids.items():
        rank = -scores[i] if types[i] == 1 else -1e9 + len(token)
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                merges.append((rank, ids[left], ids[right], left, right))
    merges = [(left, right) for *_, left, right in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges,
                                     byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    return with_special_tokens(tokenizer, tokens, types)


def random_text(generator):
    return "".join(generator.choice(WORDS) + generator.choice(SEPARATORS)
                   for _ in range(generator.randint(1, 40)))


def main():
    generator = random.Random(2026)
    texts = [random_text(generator) for _ in range(25)]
    encode = lambda tokenizer: [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    goldens = {"texts": texts, "smollm2": {name: encode(t) for name, t in smollm2(sys.argv[1])},
               "gemma3": encode(gemma3(sys.argv[2]))}
    path = pathlib.Path(__file__).with_name("tokenize_goldens.json")
    path.write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
