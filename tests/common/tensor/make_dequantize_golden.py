"""Writes dequantize_golden.txt: random blocks of every tensor type, and what the reference of the
GGUF project (PyPI `gguf`, 0.17 or later, and numpy) decodes them to.

    python3 make_dequantize_golden.py > dequantize_golden.txt

A line: the type, its blocks in hex, the float32 values in hex (little endian).
"""

import gguf
import numpy as np

NUM_BLOCKS = {1: 96, 32: 6, 256: 3}  # by elements of a block

# Byte offsets of the half-precision scales in a block; their bits are drawn apart, since random ones
# would often be infinite or NaN.
SCALE_OFFSETS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
SPECIAL_SCALES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF]  # zeros, subnormals, the largest


def random_blocks(rng, name, num_blocks, block_bytes):
    blocks = rng.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)
    for offset in SCALE_OFFSETS.get(name, []):
        scales = rng.normal(0, 0.1, num_blocks).astype(np.float16)
        scales[-1] = np.uint16(rng.choice(SPECIAL_SCALES)).view(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(num_blocks, 2)
    if num_blocks == NUM_BLOCKS[32]:
        # Quants of all zeros and all ones, at both ends of their range.
        quants_start = SCALE_OFFSETS[name][-1] + 2
        blocks[0, quants_start:] = 0x00
        blocks[1, quants_start:] = 0xFF
    return blocks


def main():
    rng = np.random.default_rng(20261124)
    for name in ["F32", "F16", "BF16", *SCALE_OFFSETS]:
        quant_type = gguf.GGMLQuantizationType[name]
        block_elements, block_bytes = gguf.GGML_QUANT_SIZES[quant_type]
        blocks = random_blocks(rng, name, NUM_BLOCKS[block_elements], block_bytes)
        values = gguf.dequantize(blocks.reshape(-1), quant_type).astype("<f4")
        print(name, blocks.tobytes().hex(), values.tobytes().hex())


main()
