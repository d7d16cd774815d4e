#!/usr/bin/env python3
"""Makes a Hugging Face folder with a llama of random bf16 weights, for measurements of speed and memory: they do
not depend on what the weights are. 8b has Llama 3.1 8B's shape (16 GB), tiny takes no time.

    tests/gpu/make_random_model.py 8b DIR
"""

import argparse
import array
import json
import pathlib
import random
import shutil
import struct

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# The tokenizer of the tests' tiny models: prompts of random ids need none.
TOKENIZER = ROOT / "tests/worker/model/tiny/llama"
SHAPES = {
    "8b": dict(num_hidden_layers=32, hidden_size=4096, intermediate_size=14336,
               num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=128256),
    "tiny": dict(num_hidden_layers=2, hidden_size=64, intermediate_size=128, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, vocab_size=512),
}
ONE = 0x3F80  # in bf16
BLOCK_NUMBERS = 1 << 20
DEVIATION = 0.02


def tensors(shape):
    """Name and dimensions of each, as Hugging Face has them."""
    hidden, mlp = shape["hidden_size"], shape["intermediate_size"]
    queries = shape["num_attention_heads"] * shape["head_dim"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    yield "model.embed_tokens.weight", [shape["vocab_size"], hidden]
    for layer in range(shape["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [hidden]
        yield prefix + "self_attn.q_proj.weight", [queries, hidden]
        yield prefix + "self_attn.k_proj.weight", [keys, hidden]
        yield prefix + "self_attn.v_proj.weight", [keys, hidden]
        yield prefix + "self_attn.o_proj.weight", [hidden, queries]
        yield prefix + "post_attention_layernorm.weight", [hidden]
        yield prefix + "mlp.gate_proj.weight", [mlp, hidden]
        yield prefix + "mlp.up_proj.weight", [mlp, hidden]
        yield prefix + "mlp.down_proj.weight", [hidden, mlp]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [shape["vocab_size"], hidden]


def random_block():
    """Normal numbers in bf16, little-endian."""
    source = random.Random(1)
    floats = (source.gauss(0, DEVIATION) for _ in range(BLOCK_NUMBERS))
    bits = array.array("H", (struct.unpack("<I", struct.pack("<f", x))[0] >> 16 for x in floats))
    return bits.tobytes()


def write_weights(path, shape):
    header, offset = {}, 0
    for name, dimensions in tensors(shape):
        count = 1
        for dimension in dimensions:
            count *= dimension
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [offset, offset + 2 * count]}
        offset += 2 * count
    text = json.dumps(header).encode()
    block, draw = random_block(), random.Random(2)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            begin, end = entry["data_offsets"]
            if len(entry["shape"]) == 1:
                file.write(struct.pack("<H", ONE) * entry["shape"][0])
                continue
            left = end - begin
            while left > 0:  # pieces of the block from anywhere: no two rows alike
                piece = block[2 * draw.randrange(BLOCK_NUMBERS // 2):][:left]
                file.write(piece)
                left -= len(piece)


def make(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(SHAPES[name], model_type="llama", max_position_embeddings=131072, rms_norm_eps=1e-5,
                  rope_theta=500000.0, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder / file)
    write_weights(folder / "model.safetensors", SHAPES[name])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    make(options.shape, options.folder)
