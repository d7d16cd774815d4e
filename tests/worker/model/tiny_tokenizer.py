"""The tiny models' tokenizer: byte-level BPE of 300 entries, trained on the text below."""

import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

from tiny_recipes import BOS_ID, CONTEXT_LENGTH, EOS_ID, PAD_ID, VOCAB_SIZE

_TRAINING_TEXT = """The worker keeps the keys and values of every token that its heads may still
need, and gives the others back. The coordinator never touches a tensor: it plans the steps, and
the workers run them, one after the other, in the order in which they were sent."""

_SPECIALS = ("<|bos|>", "<|im_end|>", "<|pad|>", "<|im_start|>")

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    "llama3": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST,
    "qwen2": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST,
}

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEXTS = (
    "The worker keeps every token",
    "it's 12345 steps, they'll  wait\n\n  then\tgo",
    "Größe: 日本語 🙂 e\u0301",
    "<|im_start|>user\nhi<|im_end|>\n",
    " leading and trailing ",
)


def make_tokenizer(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    if kind == "gpt2":
        tokenizer.pre_tokenizer = byte_level
    else:
        split = pre_tokenizers.Split(Regex(_SPLITS[kind]), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in _SPECIALS],
    )
    tokenizer.train_from_iterator([_TRAINING_TEXT], trainer)
    if kind == "llama3":  # the one whose prompts begin with BOS
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{_SPECIALS[BOS_ID]} $A", special_tokens=[(_SPECIALS[BOS_ID], BOS_ID)]
        )
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert tokenizer.token_to_id(_SPECIALS[EOS_ID]) == EOS_ID
    return tokenizer


def save_tokenizer(kind: str, folder: pathlib.Path) -> Tokenizer:
    tokenizer = make_tokenizer(kind)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token=_SPECIALS[BOS_ID],
        eos_token=_SPECIALS[EOS_ID],
        pad_token=_SPECIALS[PAD_ID],
        add_bos_token=kind == "llama3",
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=_CHAT_TEMPLATE,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return tokenizer
