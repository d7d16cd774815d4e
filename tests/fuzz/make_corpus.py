#!/usr/bin/env python3
"""Writes the binary files of the corpus: one for each class of hostile file that has hurt a reader of
these formats somewhere, and well-formed ones to start from. The text files are written by hand.

    tests/fuzz/make_corpus.py [FOLDER]        (default: the corpus beside this file)
"""

import json
import pathlib
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HUGE = 2**64 - 1


# GGUF's encoding.

def u32(number):
    return struct.pack("<I", number)


def u64(number):
    return struct.pack("<Q", number)


def string(text):
    return u64(len(text.encode())) + text.encode()


def uint32_value(number):
    return u32(4) + u32(number)


def float_value(number):
    return u32(6) + struct.pack("<f", number)


def string_value(text):
    return u32(8) + string(text)


def strings_value(texts):
    return u32(9) + u32(8) + u64(len(texts)) + b"".join(map(string, texts))


def int32s_value(numbers):
    return u32(9) + u32(5) + u64(len(numbers)) + struct.pack(f"<{len(numbers)}i", *numbers)


class Gguf:
    """A GGUF file: metadata (key, encoded value) and tensors as dicts, each field free to be wrong."""

    def __init__(self):
        self.num_tensors = None
        self.num_entries = None
        self.entries = []
        self.tensors = []

    def add(self, name, dims, number_type=0, row_bytes=None):
        size = row_bytes if row_bytes is not None else 4
        for dim in dims:
            size *= dim if row_bytes is None else 1
        self.tensors.append({"name": name, "dims": list(dims), "type": number_type,
                             "data": bytes(size), "offset": None, "num_dims": None})

    def build(self):
        def stated(value, true):
            return true if value is None else value

        head = b"GGUF" + u32(3) + u64(stated(self.num_tensors, len(self.tensors)))
        head += u64(stated(self.num_entries, len(self.entries)))
        for key, value in self.entries:
            head += string(key) + value
        data = b""
        for tensor in self.tensors:
            data += bytes(-len(data) % 32)
            head += string(tensor["name"]) + u32(stated(tensor["num_dims"], len(tensor["dims"])))
            head += b"".join(map(u64, tensor["dims"])) + u32(tensor["type"])
            head += u64(stated(tensor["offset"], len(data)))
            data += tensor["data"]
        return head + bytes(-len(head) % 32) + data


def two_tensors():
    file = Gguf()
    file.entries = [("general.name", string_value("two")), ("list", strings_value(["one", "two"]))]
    file.add("first", [3, 2])
    file.add("second", [32], number_type=2, row_bytes=18)
    return file


def spoilt(**changes):
    """two_tensors() with the named field of the file, or of a tensor (first__dims=…), changed."""
    file = two_tensors()
    for field, value in changes.items():
        if "__" in field:
            name, field = field.split("__")
            next(t for t in file.tensors if t["name"] == name)[field] = value
        else:
            setattr(file, field, value)
    return file.build()


def with_entry(key, value):
    file = two_tensors()
    file.entries.append((key, value))
    return file.build()


def tiny_model(architecture, vocabulary):
    """A model of one layer that opens."""
    file = Gguf()
    sizes = {"block_count": 1, "context_length": 64, "embedding_length": 8,
             "feed_forward_length": 8, "attention.head_count": 2, "attention.head_count_kv": 1,
             "attention.key_length": 4, "attention.value_length": 4}
    file.entries = [("general.architecture", string_value(architecture))]
    file.entries += [(f"{architecture}.{key}", uint32_value(n)) for key, n in sizes.items()]
    file.entries += [(f"{architecture}.attention.layer_norm_rms_epsilon", float_value(1e-5)),
                     (f"{architecture}.rope.freq_base", float_value(5000.0))]
    tokens = ["<unk>", "<s>", "</s>", "H", "e", "l", "o", "He", "ll", "\u0120", "\u2581", "<0x0A>"]
    file.entries += [("tokenizer.ggml.model", string_value(vocabulary)),
                     ("tokenizer.ggml.tokens", strings_value(tokens)),
                     ("tokenizer.ggml.token_type", int32s_value([2, 3, 3] + [1] * 8 + [6])),
                     ("tokenizer.ggml.bos_token_id", uint32_value(1)),
                     ("tokenizer.ggml.eos_token_id", uint32_value(2)),
                     ("tokenizer.chat_template",
                      string_value("{% for m in messages %}{{ m.content }}{% endfor %}"))]
    if vocabulary == "gpt2":
        file.entries += [("tokenizer.ggml.pre", string_value("smollm")),
                         ("tokenizer.ggml.merges", strings_value(["H e", "l l"]))]
    else:
        scores = u32(9) + u32(6) + u64(len(tokens)) + struct.pack("<12f", *range(-12, 0))
        file.entries.append(("tokenizer.ggml.scores", scores))
    file.add("token_embd.weight", [8, 12])
    for name, dims in [("attn_norm", [8]), ("attn_q", [8, 8]), ("attn_k", [8, 4]),
                       ("attn_v", [8, 4]), ("attn_output", [8, 8]), ("ffn_norm", [8]),
                       ("ffn_gate", [8, 8]), ("ffn_up", [8, 8]), ("ffn_down", [8, 8])]:
        file.add(f"blk.0.{name}.weight", dims)
    file.add("output_norm.weight", [8])
    return file


def model_with(key, value):
    file = tiny_model("llama", "gpt2")
    file.entries = [entry for entry in file.entries if entry[0] != key] + [(key, value)]
    return file.build()


def gguf_files():
    entries_twice = two_tensors().entries + two_tensors().entries[:1]
    return {
        "model_byte_level": tiny_model("llama", "gpt2").build(),
        "model_sentence_piece": tiny_model("llama", "llama").build(),
        "two_tensors": two_tensors().build(),
        "empty_directory": Gguf().build(),
        "tensor_count_huge": spoilt(num_tensors=HUGE),
        "entry_count_huge": spoilt(num_entries=HUGE),
        "entry_count_signed": spoilt(num_entries=2**63),
        "product_of_dimensions_wraps": spoilt(first__dims=[2**32, 2**32, 2]),
        "bytes_wrap": spoilt(first__dims=[2**62]),
        "sum_over_tensors_wraps": spoilt(second__offset=HUGE - 31),
        "offset_past_the_end": spoilt(second__offset=2**20),
        "data_past_the_end": spoilt(second__dims=[32, 2]),
        "data_overlaps": spoilt(second__offset=0),
        "string_longer_than_the_file": with_entry("s", u32(8) + u64(2**30)),
        "string_length_wraps": with_entry("s", u32(8) + u64(HUGE)),
        "strings_huge_count": with_entry("s", u32(9) + u32(8) + u64(HUGE)),
        "numbers_count_wraps": with_entry("s", u32(9) + u32(10) + u64(2**61 + 1)),
        "array_of_arrays": with_entry("s", u32(9) + u32(9) + u64(0)),
        "value_type_unknown": with_entry("s", u32(13)),
        "type_out_of_range": spoilt(first__type=1000),
        "type_negative": spoilt(first__type=2**32 - 1),
        "type_of_block_size_zero": spoilt(first__type=4),
        "rows_no_multiple_of_the_block": spoilt(second__dims=[16, 2]),
        "alignment_zero": with_entry("general.alignment", uint32_value(0)),
        "alignment_odd": with_entry("general.alignment", uint32_value(48)),
        "alignment_of_wrong_type": with_entry("general.alignment", u32(10) + u64(32)),
        "alignment_past_the_end": with_entry("general.alignment", uint32_value(2**31)),
        "key_twice": spoilt(entries=entries_twice),
        "tensor_name_twice": spoilt(second__name="first"),
        "five_dimensions": spoilt(first__num_dims=5),
        "dimension_count_huge": spoilt(first__num_dims=2**32 - 1),
        "zero_dimension": spoilt(first__dims=[3, 0]),
        "negative_dimension": spoilt(first__dims=[HUGE]),
        "token_count_signed": model_with("tokenizer.ggml.tokens", u32(9) + u32(8) + u64(2**63)),
        "token_id_negative": model_with("tokenizer.ggml.bos_token_id", u32(5) + u32(2**32 - 1)),
        "layers_absurd": model_with("llama.block_count", uint32_value(2**32 - 1)),
        "heads_zero": model_with("llama.attention.head_count_kv", uint32_value(0)),
        "context_absurd": model_with("llama.context_length", u32(10) + u64(2**63)),
        "rope_base_not_a_number": model_with("llama.rope.freq_base", float_value(float("nan"))),
        "template_does_not_end": model_with("tokenizer.chat_template",
                                            string_value("{% for m in messages %}")),
        "cut_in_the_directory": two_tensors().build()[:150],
    }


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, str) else json.dumps(header)
    return u64(len(text) if length is None else length) + text.encode() + data


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def safetensors_files():
    return {
        "three_tensors": safetensors({"a": entry(0, 8), "b": entry(8, 14, (3,), "BF16"),
                                      "__metadata__": {"format": "pt"},
                                      "c": entry(14, 16, (), "F16")}, bytes(16)),
        "header_longer_than_the_file": safetensors({"a": entry(0, 8)}, bytes(8), length=2**40),
        "header_length_wraps": safetensors({}, length=HUGE - 7),
        "overlap": safetensors({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        "unordered": safetensors({"a": entry(8, 16), "b": entry(0, 8)}, bytes(16)),
        "offsets_backwards": safetensors({"a": entry(8, 0)}, bytes(8)),
        "offset_past_the_end": safetensors({"a": entry(0, 2**64 - 1)}, bytes(8)),
        "offset_negative": safetensors({"a": entry(-8, 0)}, bytes(8)),
        "gap": safetensors({"a": entry(4, 12)}, bytes(12)),
        "product_wraps": safetensors({"a": entry(0, 0, (2**32, 2**32))}),
        "deep_json": safetensors("[" * 5000),
        "key_twice": safetensors('{"a": {}, "a": {}}'),
        "not_utf8": u64(9) + b'{"\xff": {}}'[:9],
    }


def encoded(message, text, proto="inference"):
    """The wire format of a message in protobuf's text format."""
    protoc = ["protoc", f"--proto_path={ROOT}/proto", f"--encode=kvec.v1.{message}",
              f"kvec/v1/{proto}.proto"]
    return subprocess.run(protoc, input=text.encode(), capture_output=True, check=True).stdout


GENERATE_REQUESTS = {
    "text": 'text: "Hello" request_id: "r-1" stopping { max_tokens: 5 stop: "." }',
    "chat": 'chat { messages { role: "user" content: "Hi" } template_arguments_json: "{\\"x\\": 1}" }',
    "token_ids": "token_ids { ids: [1, 2, 257] } logprobs: 3 prompt_logprobs: 0 priority: -5",
    "sampling": 'text: "a" sampling { temperature: 0.7 top_k: 40 top_p: 0.9 min_p: 0.05 '
                "repetition_penalty: 1.1 frequency_penalty: 0.5 presence_penalty: -0.5 seed: 7 n: 2 "
                "logit_bias { key: 3 value: -100 } }",
    "cache": 'text: "a" cache { policy: "kvec" budget_tokens: 256 observation_window: 16 '
             'wide_window: 32 lambda: 0.5 beta: 0.1 delta: 2 layer_allocation: "uniform" '
             'head_allocation: "adaptive" }',
    "forced": "token_ids { ids: 1 } forced_token_ids: [2, 3] stopping { ignore_eos: true }",
    "not_a_number": 'text: "a" sampling { temperature: nan min_p: -nan top_p: inf }',
    "ids_beyond_the_vocabulary": "token_ids { ids: [4294967295, 258] }",
    "max_tokens_absurd": 'text: "a" stopping { max_tokens: 4294967295 min_tokens: 4294967295 }',
    "negative_priority": 'text: "a" priority: -2147483648',
    "arguments_nested": 'chat { messages { role: "user" } template_arguments_json: "' + "[" * 500 + '" }',
    "special_tokens": 'text: "<|mark|>a<|end|>" parse_special_tokens: false add_special_tokens: false',
}

SAMPLING = "sampling { top_p: 1 repetition_penalty: 1 logprobs: 2 prompt_logprobs: -1 }"
FULL = 'cache { policy: "full" }'
KVEC = ('cache { policy: "kvec" budget_tokens: 20 observation_window: 4 wide_window: 8 '
        'layer_allocation: "uniform" head_allocation: "adaptive" }')


def start(sequence, prompt_tokens, cache=FULL, sampling=SAMPLING):
    return f"starts {{ sequence_id: {sequence} prompt_tokens: {prompt_tokens} {sampling} {cache} }}"


def prompt(sequence, tokens, position=0, more="sample: true"):
    ids = ", ".join(str(i % 12) for i in range(tokens))
    return (f"work {{ sequence_id: {sequence} token_ids: [{ids}] first_position: {position} "
            f"is_prompt: true {more} }}")


def decode(sequence, position, more="sample: true"):
    return f"work {{ sequence_id: {sequence} first_position: {position} {more} }}"


LAYERS = ", ".join(["24"] * 4)
STEPS = {
    "prompt_and_decode": [start(1, 8) + prompt(1, 8), decode(1, 8), "freed_sequence_ids: 1"],
    "chunks": [start(1, 40) + prompt(1, 20, more=""), prompt(1, 20, 20), decode(1, 40)],
    "two_sequences": [start(1, 5) + start(2, 7) + prompt(1, 5) + prompt(2, 7),
                      decode(1, 5) + decode(2, 7)],
    "scored": [start(1, 6) + prompt(1, 6, more="score_tokens: true next_token_id: 3")],
    "fork": [start(1, 6) + prompt(1, 6, more="sample: true num_choices: 2"),
             f"forks {{ parent_sequence_id: 1 child {{ sequence_id: 2 prompt_tokens: 6 {FULL} "
             "sampling { top_p: 1 repetition_penalty: 1 logprobs: -1 choice: 1 } } }"
             + decode(1, 6) + decode(2, 6)],
    "evicted": [start(1, 48, KVEC) + prompt(1, 48),
                f"evictions {{ sequence_id: 1 layer_budgets: [{LAYERS}] }}" + decode(1, 48)],
    "sampled": [start(1, 4, sampling="sampling { temperature: 1 top_k: 5 top_p: 0.9 min_p: 0.1 "
                      "repetition_penalty: 1.2 frequency_penalty: 1 presence_penalty: 1 seed: 9 "
                      "logit_bias { key: 3 value: 2 } min_tokens: 2 stop_token_ids: 2 "
                      "logprobs: 5 prompt_logprobs: 2 }") + prompt(1, 4), decode(1, 4)],
    "token_beyond_the_vocabulary": [
        start(1, 1) + "work { sequence_id: 1 token_ids: 4294967295 is_prompt: true sample: true }"],
    "position_absurd": [start(1, 1) + prompt(1, 1, 2**32 - 1)],
    "prompt_absurd": [start(1, 2**32 - 1, KVEC)],
    "choices_absurd": [start(1, 2) + prompt(1, 2, more="sample: true num_choices: 4294967295")],
    "budgets_short": [start(1, 20, KVEC) + prompt(1, 20)
                      + "evictions { sequence_id: 1 layer_budgets: 4294967295 }"],
    "nothing_known": [decode(9, 0), "evictions { sequence_id: 9 }", "freed_sequence_ids: 9"],
}


def step_files():
    def stream(messages):
        wire = [encoded("CoordinatorMessage", text, "cluster") for text in messages]
        return b"".join(varint(len(message)) + message for message in wire)

    files = {name: stream("step { step_id: %d %s }" % (i + 1, step) for i, step in enumerate(steps))
             for name, steps in STEPS.items()}
    form = ('form_group { group_epoch: 1 placement { num_stages: 1 num_ranks: 1 first_layer: %d '
            'num_layers: %d } sentence_end_bits: "\\xff\\x0f" }')
    files["form_group"] = stream([form % (0, 4)])
    files["form_group_of_absurd_layers"] = stream([form % (2**32 - 1, 2**31 - 1)])
    return files


def varint(number):
    result = b""
    while number >= 0x80:
        result += bytes([number & 0x7F | 0x80])
        number >>= 7
    return result + bytes([number])


def main():
    corpus = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "tests/fuzz/corpus")
    requests = {name: encoded("GenerateRequest", text) for name, text in GENERATE_REQUESTS.items()}
    for target, files in {"gguf": gguf_files(), "safetensors": safetensors_files(),
                          "generate_request": requests, "step": step_files()}.items():
        (corpus / target).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (corpus / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
