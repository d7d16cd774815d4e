"""Dequantises a GGUF file to a Hugging Face folder: gguf_to_hugging_face.py MODEL.gguf FOLDER

The weights stay exactly those of the file, in float32: what another engine makes of them is
comparable with what kvec reads.
"""

import pathlib
import sys

import torch
import transformers


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1]).resolve()
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    model.save_pretrained(sys.argv[2])
    transformers.AutoTokenizer.from_pretrained(**where).save_pretrained(sys.argv[2])


if __name__ == "__main__":
    main()
