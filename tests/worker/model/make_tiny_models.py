"""Makes tiny/: small random models of every family as Hugging Face folders, and their goldens.

    pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 tokenizers==0.23.3
    python3 tests/worker/model/make_tiny_models.py

The goldens come from transformers, which reads the written folder as it would any checkpoint, in
float32 arithmetic with eager attention and no KV cache. The script fails where a golden could not
tell a right engine from a wrong one (tiny_recipes.py, `mutations`). Weights come from a seeded
generator of NumPy, so that they do not depend on torch's version.
"""

import json
import pathlib
import shutil
import tempfile

import numpy as np
from safetensors.torch import save_file
import torch
import transformers

from tiny_recipes import BOS_ID, CONTEXT_LENGTH, EOS_ID, PAD_ID, RECIPES, VOCAB_SIZE
from tiny_recipes import Mutation, Recipe
from tiny_tokenizer import TEXTS, save_tokenizer

PROMPT_LENGTHS = (1, 7, 40)
NUM_STEPS = 24
NUM_TOP = 5
LOGIT_DEVIATION = 1.3  # of the logits of one position: well spread, not one-hot
MIN_MUTATION_EFFECT = 0.25  # log-probability; an engine's tolerance is 0.05
MAX_BF16_EFFECT = 0.04  # below that tolerance too
MAX_FOLDER_BYTES = 300 * 1024

TINY_DIR = pathlib.Path(__file__).resolve().parent / "tiny"


def make_prompts(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(1000 + seed)
    first_plain_id = 4  # the special tokens come before
    return [rng.integers(first_plain_id, VOCAB_SIZE, size=n).tolist() for n in PROMPT_LENGTHS]


def deviation_of(recipe: Recipe, name: str, shape: torch.Size) -> float:
    """Of a weight's entries: keeps activations near 1 and attention sharp enough for RoPE to matter."""
    if "embed_tokens" in name:
        # Tied embeddings as large as the layers' outputs would make every token repeat itself.
        return 0.15 if recipe.config["tie_word_embeddings"] else 1.0
    if name.endswith(".bias"):
        return 0.3
    return shape[1] ** -0.5


def make_weights(recipe: Recipe, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(recipe.seed)
    is_gemma = recipe.config["model_type"] == "gemma3_text"
    weights = {}
    for name, parameter in sorted(model.named_parameters()):  # a tied head is listed once
        normal = rng.standard_normal(tuple(parameter.shape)).astype(np.float32)
        if "norm" in name:
            mean = 1.0
            if (
                is_gemma
            ):  # stored minus one; post norms weigh the layers against the scaled embeddings
                mean = 0.5 if "post_" in name else 0.0
            values = mean + 0.2 * normal
        else:
            values = deviation_of(recipe, name, parameter.shape) * normal
        weights[name] = torch.from_numpy(values)
    return weights


@torch.no_grad()
def calibrate(recipe: Recipe, model: torch.nn.Module, weights: dict[str, torch.Tensor]):
    """Scales the final norm so that logits have LOGIT_DEVIATION."""
    model.load_state_dict(weights, strict=False)
    logits = model(torch.tensor([make_prompts(recipe.seed)[-1]])).logits[0]
    factor = LOGIT_DEVIATION / logits.std(dim=-1).mean().item()
    stored_minus = 1.0 if recipe.config["model_type"] == "gemma3_text" else 0.0
    norm = weights["model.norm.weight"]
    weights["model.norm.weight"] = (norm + stored_minus) * factor - stored_minus


def save_weights(recipe: Recipe, weights: dict[str, torch.Tensor], folder: pathlib.Path):
    names = sorted(weights)
    per_shard = -(-len(names) // recipe.num_shards)
    shards = [names[i : i + per_shard] for i in range(0, len(names), per_shard)]
    weight_map = {}
    for i, shard in enumerate(shards):
        file = "model.safetensors"
        if recipe.num_shards > 1:
            file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        tensors = {name: weights[name].to(recipe.dtype).contiguous() for name in shard}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update({name: file for name in shard})
    if recipe.num_shards > 1:
        size = sum(w.numel() for w in weights.values()) * recipe.dtype.itemsize
        index = dict(metadata=dict(total_size=size), weight_map=weight_map)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def load(folder: pathlib.Path, dtype: torch.dtype) -> torch.nn.Module:
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    for what, names in report.items():
        assert not names, f"{folder.name}: {what}: {names}"
    return model.eval()


def write_folder(recipe: Recipe, folder: pathlib.Path):
    """Writes the model, and gives its tokenizer."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(recipe.config, indent=2) + "\n")
    generation = dict(
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID, do_sample=False
    )
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager"
    ).eval()
    weights = make_weights(recipe, model)
    calibrate(recipe, model, weights)
    save_weights(recipe, weights, folder)
    return save_tokenizer(recipe.tokenizer, folder)


@torch.no_grad()
def log_probs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """[len(ids), vocab_size]"""
    return torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0].double(), dim=-1)


def golden_of_prompt(model: torch.nn.Module, prompt: list[int]) -> dict:
    ids = list(prompt)
    top = []
    for _ in range(NUM_STEPS):
        best = log_probs(model, ids)[-1].topk(NUM_TOP)
        top.append([[i, round(p, 5)] for i, p in zip(best.indices.tolist(), best.values.tolist())])
        ids.append(top[-1][0][0])
    rows = log_probs(model, prompt)
    prompt_logprobs = [round(rows[i, prompt[i + 1]].item(), 5) for i in range(len(prompt) - 1)]
    return dict(
        prompt_ids=prompt,
        prompt_logprobs=prompt_logprobs,
        generated_ids=ids[len(prompt) :],
        top_logprobs=top,
    )


def write_golden(recipe: Recipe, golden: dict, path: pathlib.Path):
    """One step a line: diffs stay readable."""
    lines = json.dumps(golden, ensure_ascii=False)
    for opening in (
        '"tokenize": [',
        '"generate": [',
        '"prompt_logprobs": ',
        '"generated_ids": ',
        '"top_logprobs": ',
        '"prompt_ids": ',
    ):
        lines = lines.replace(opening, "\n" + opening)
    lines = lines.replace("]], [[", "]],\n[[").replace("}, {", "},\n{")
    assert json.loads(lines) == golden
    path.write_text(lines + "\n")


def largest_difference(golden: dict, model: torch.nn.Module) -> float:
    """Between the golden's log-probabilities and those of a model fed the golden's tokens."""
    largest = 0.0
    for case in golden["generate"]:
        prompt, generated = case["prompt_ids"], case["generated_ids"]
        rows = log_probs(model, prompt + generated)
        for i, expected in enumerate(case["prompt_logprobs"]):
            largest = max(largest, abs(rows[i, prompt[i + 1]].item() - expected))
        for step, best in enumerate(case["top_logprobs"]):
            for token, expected in best:
                largest = max(largest, abs(rows[len(prompt) - 1 + step, token].item() - expected))
    return largest


def with_bf16_products(model: torch.nn.Module) -> torch.nn.Module:
    """Rounds what enters a matrix product, and keys and values, as an engine on bf16 hardware does."""

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.bfloat16).to(tensor.dtype)

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))
            if name.endswith(("k_proj", "v_proj")):
                module.register_forward_hook(lambda _, inputs, output: rounded(output))
    return model


@torch.no_grad()
def mutation_effect(
    recipe: Recipe, mutation: Mutation, folder: pathlib.Path, golden: dict
) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        copy = pathlib.Path(scratch) / "model"
        shutil.copytree(folder, copy)
        (copy / "config.json").write_text(json.dumps({**recipe.config, **mutation.config}))
        model = load(copy, torch.float32)
    if mutation.fill_suffix:
        filled = [p for n, p in model.named_parameters() if n.endswith(mutation.fill_suffix)]
        assert filled, f"{recipe.name}: no tensor ends in {mutation.fill_suffix}"
        for parameter in filled:
            parameter.fill_(mutation.fill_value)
    return largest_difference(golden, model)


def make(recipe: Recipe):
    folder = TINY_DIR / recipe.name
    tokenizer = write_folder(recipe, folder)
    model = load(folder, torch.float32)
    golden = dict(
        model=recipe.name,
        reference=f"transformers {transformers.__version__}, float32 arithmetic, EOS ignored",
        tokenize=[
            dict(text=text, ids=tokenizer.encode(text, add_special_tokens=False).ids)
            for text in TEXTS
        ],
        generate=[golden_of_prompt(model, prompt) for prompt in make_prompts(recipe.seed)],
    )
    write_golden(recipe, golden, TINY_DIR / f"{recipe.name}.json")

    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size <= MAX_FOLDER_BYTES, f"{recipe.name}: {size} bytes"
    rounding = largest_difference(golden, load(folder, torch.float64))
    assert rounding < 1e-3, f"{recipe.name}: float64 is {rounding} away"
    bf16 = largest_difference(golden, with_bf16_products(load(folder, torch.float32)))
    distinct = len({i for case in golden["generate"] for i in case["generated_ids"]})
    print(
        f"{recipe.name}: {size} bytes, {distinct} distinct tokens, away from the golden: "
        f"float64 {rounding:.1e}, bf16 products {bf16:.3f}"
    )
    assert bf16 <= MAX_BF16_EFFECT, f"{recipe.name}: amplifies rounding too much"
    for mutation in recipe.mutations:
        effect = mutation_effect(recipe, mutation, folder, golden)
        print(f"  without the right {mutation.name}: {effect:.2f}")
        assert effect >= MIN_MUTATION_EFFECT, f"{recipe.name}: {mutation.name} goes unnoticed"


def main():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(TINY_DIR, ignore_errors=True)
    for recipe in RECIPES:
        assert recipe.config["max_position_embeddings"] == CONTEXT_LENGTH
        make(recipe)


if __name__ == "__main__":
    main()
