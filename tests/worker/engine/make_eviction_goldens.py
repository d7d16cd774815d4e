#!/usr/bin/env python3
"""Writes eviction_goldens.json: what evictions of tiny models' prompts keep, and what the models
say of the tokens that follow.

    pip install torch==2.15.0 transformers==5.24.0
    python3 tests/worker/engine/make_eviction_goldens.py

Attention probabilities and value norms come from transformers (float32, eager attention), keep-sets
from the NumPy oracles. What follows is one forward pass over prompt and continuation in which the
continuation's rows do not see what is evicted, head by head: no KV cache is involved.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "eviction"))
sys.path.insert(0, str(HERE.parent / "eviction" / "oracle"))
from case_file import layer_budgets, oracle_keep  # noqa: E402
from kvec_default import chunk_of, score_of  # noqa: E402

MODELS = ["gemma3", "llama", "qwen2"]
POLICIES = ["streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec"]
SECOND_READING = "kvec, second reading"
CURVE_BUDGETS = [7, 28, 60, 148]  # entries over a layer's KV heads
READING_TOKENS = 50  # of the prompt, read again at a time
PROMPT_TOKENS = 90
FORCED_TOKENS = 8
OBSERVATION_WINDOW = 16
WIDE_WINDOW = 32
KVEC_QUERIES = 8
BUDGET = 30  # per KV head, the observation window included
NOISE = 1e-5  # relative, of the probabilities: keep-sets must survive it
MIN_EFFECT = 0.02  # of an eviction on some log-probability; the engine's tolerance is 0.002


def random_tokens(rng, count):
    return rng.integers(4, 290, size=count).tolist()


def closes_sentence(token):
    return token % 11 == 0


@torch.no_grad()
def attention_case(model, prompt):
    """The evicting layers, and the oracles' case of them."""
    config = model.config
    types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    layers = [l for l, kind in enumerate(types) if kind == "full_attention"]
    out = model(torch.tensor([prompt]), output_attentions=True, use_cache=True)
    A = torch.stack([out.attentions[l][0, :, -WIDE_WINDOW:] for l in layers]).numpy()
    values = torch.stack([out.past_key_values.layers[l].values[0] for l in layers])
    return layers, {
        "A": A,
        "vnorm": values.norm(dim=-1).numpy(),
        "ends": np.array([closes_sentence(token) for token in prompt]),
        "G": config.num_key_value_heads,
        "B": BUDGET,
        "O": OBSERVATION_WINDOW,
        "paper": {"O2": WIDE_WINDOW, "delta": 1, "lam": 1.0, "beta": 0.25},
        "kvec": {},
    }


@torch.no_grad()
def read_again(model, prompt, layers, case):
    """The case as a second reading scores it: every query of the window attends as much as any query
    of the prompt does that comes once more behind the prompt."""
    maxima = np.zeros(case["A"].shape[:2] + (len(prompt),), np.float32)
    for begin in range(0, len(prompt), READING_TOKENS):
        chunk = prompt[begin : begin + READING_TOKENS]
        out = model(torch.tensor([prompt + chunk]), output_attentions=True, use_cache=False)
        for i, layer in enumerate(layers):
            attention = out.attentions[layer][0, :, len(prompt) :, : len(prompt)].numpy()
            maxima[i] = np.maximum(maxima[i], attention.max(1))
    return {**case, "A": np.repeat(maxima[:, :, None], WIDE_WINDOW, axis=2)}


def curves(case):
    """Of each layer: the share of the roots of kvec's scores that the best entries hold at
    CURVE_BUDGETS."""
    n = PROMPT_TOKENS - OBSERVATION_WINDOW
    chunk = chunk_of(case["ends"], n, cap=48)
    shares = []
    for A, norms in zip(case["A"], case["vnorm"]):
        scores = score_of(A, case["G"], n, chunk, norms, "mean8", 0.2)
        falling = np.sort(np.sqrt(scores).ravel())[::-1]
        held = np.cumsum(falling, dtype=np.float64) / falling.sum(dtype=np.float64)
        shares.append([round(float(held[min(b, held.size) - 1]), 6) for b in CURVE_BUDGETS])
    return shares


def is_stable(case, policy):
    rng = np.random.default_rng(1)
    keep = oracle_keep(case, policy)
    for _ in range(5):
        noise = 1 + NOISE * rng.uniform(-1, 1, case["A"].shape)
        if oracle_keep({**case, "A": case["A"] * noise}, policy) != keep:
            return False
    return True


@torch.no_grad()
def log_probs(model, tokens, keep_of_layer):
    """Of the forced tokens but the first; keep_of_layer: layer -> candidates kept per KV head."""
    size = len(tokens)
    candidates = PROMPT_TOKENS - OBSERVATION_WINDOW
    hooks = []
    for layer, keep in keep_of_layer.items():
        hidden = torch.ones(size, size).triu(1).bool().repeat(model.config.num_attention_heads, 1, 1)
        group = model.config.num_attention_heads // len(keep)
        for head in range(model.config.num_attention_heads):
            evicted = sorted(set(range(candidates)) - set(keep[head // group]))
            hidden[head, PROMPT_TOKENS:, evicted] = True
        mask = torch.zeros(1, *hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)

        def replace_mask(module, args, kwargs, mask=mask):
            return args, {**kwargs, "attention_mask": mask}

        attention = model.model.layers[layer].self_attn
        hooks.append(attention.register_forward_pre_hook(replace_mask, with_kwargs=True))
    logits = model(torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)
    for hook in hooks:
        hook.remove()
    return [logits[t, tokens[t + 1]].item() for t in range(PROMPT_TOKENS, size - 1)]


def layer_report(case, index, keep, policy):
    """Unique tokens and the share of the window's attention on what is kept, as reported."""
    window = KVEC_QUERIES if policy == "kvec" else OBSERVATION_WINDOW
    n = PROMPT_TOKENS - OBSERVATION_WINDOW
    means = case["A"][index, :, -window:, :n].mean(1)
    group = len(means) // len(keep)
    lost = [np.delete(mean, keep[h // group]).sum() for h, mean in enumerate(means)]
    return {
        "unique_tokens": len(set().union(*keep)) + OBSERVATION_WINDOW,
        "kept_entries": sum(len(head) + OBSERVATION_WINDOW for head in keep),
        "attention_mass": round(float(1 - np.mean(lost)), 6),
    }


def goldens_of(name, seed):
    """None where a keep-set hangs on rounding."""
    folder = HERE.parent / "model" / "tiny" / name
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, PROMPT_TOKENS + FORCED_TOKENS)
    layers, case = attention_case(model, tokens[:PROMPT_TOKENS])
    cases = {policy: case for policy in POLICIES}
    cases[SECOND_READING] = read_again(model, tokens[:PROMPT_TOKENS], layers, case)
    if not all(is_stable(c, policy.split(",")[0]) for policy, c in cases.items()):
        return None
    full = np.array(log_probs(model, tokens, {}))
    evictions = []
    for name_of_case, scored in cases.items():
        policy = name_of_case.split(",")[0]
        keep = oracle_keep(scored, policy)
        following = log_probs(model, tokens, dict(zip(layers, keep)))
        if np.abs(full - following).max() < MIN_EFFECT:
            return None
        budgets = [0] * model.config.num_hidden_layers
        for layer, budget in zip(layers, layer_budgets(case, policy)):
            budgets[layer] = budget
        evictions.append({
            "policy": policy,
            "reading_tokens": READING_TOKENS if name_of_case == SECOND_READING else 0,
            "layer_budgets": budgets,
            "kept_candidates": sorted(set().union(*(head for layer in keep for head in layer))),
            "layers": [
                {"layer": layer, **layer_report(case, i, keep[i], policy)}
                for i, layer in enumerate(layers)
            ],
            "log_probs": [round(value, 5) for value in following],
        })
    return {
        "model": name,
        "prompt": tokens[:PROMPT_TOKENS],
        "forced": tokens[PROMPT_TOKENS:],
        "sentence_ends": [token for token in range(model.config.vocab_size)
                          if closes_sentence(token)],
        "curve_budgets": CURVE_BUDGETS,
        "curves": curves(case),
        "evictions": evictions,
    }


def main():
    goldens = []
    for name in MODELS:
        found = (goldens_of(name, seed) for seed in range(100))
        goldens.append(next(golden for golden in found if golden is not None))
    lines = ",\n".join(json.dumps(golden, separators=(",", ":")) for golden in goldens)
    (HERE / "eviction_goldens.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
