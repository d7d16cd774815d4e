#!/usr/bin/env python3
"""Writes schedule_goldens.json: what tiny models' sequences keep when they are evicted several
times, inside their prompt and while they generate, and what the models say of the tokens between.

    pip install torch==2.15.0 transformers==5.24.0
    python3 tests/worker/engine/make_schedule_goldens.py

As make_eviction_goldens.py: no KV cache is involved. A row of attention does not see what was
evicted before it, head by head. An eviction scores by the last rows' attention over what is still
held: their probabilities, renormalised.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "eviction" / "oracle"))
from held import choose  # noqa: E402

MODELS = ["gemma3", "llama"]
POLICIES = ["streaming", "snapkv", "adasnapkv", "kvec-paper", "kvec"]
PROMPT_TOKENS = 100
FORCED_TOKENS = 24
POSITIONS = [60, 70, 80, 90, 100, 108, 116]  # of evictions
OBSERVATION_WINDOW = 16
WIDE_WINDOW = 32
PREFILL_SELECTED = 34  # per KV head, inside the prompt
SELECTED = 14  # at its end and later
PAPER = {"O2": WIDE_WINDOW, "delta": 1, "lam": 1.0, "beta": 0.25}
NOISE = 1e-5  # relative, of the probabilities: keep-sets must survive it
MIN_EFFECT = 0.02  # of the evictions on some log-probability; the engine's tolerance is 0.002


def closes_sentence(token):
    return token % 11 == 0


class MaskedModel:
    """A model whose rows don't see what is hidden from them, head by head."""

    def __init__(self, name):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            HERE.parent / "model" / "tiny" / name, attn_implementation="eager", dtype=torch.float32
        )
        config = self.model.config
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        self.layers = [l for l, kind in enumerate(kinds) if kind == "full_attention"]
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads

    @torch.no_grad()
    def run(self, tokens, hidden):
        """hidden: bool [evicting layers, KV heads, rows, tokens]."""
        size = len(tokens)
        group = self.num_heads // self.num_kv_heads
        hooks = []
        for index, layer in enumerate(self.layers):
            later = torch.ones(size, size).triu(1).bool()
            of_heads = torch.from_numpy(hidden[index, :, :size, :size].repeat(group, axis=0))
            mask = torch.zeros(1, self.num_heads, size, size).masked_fill(
                of_heads | later, torch.finfo(torch.float32).min
            )

            def replace_mask(module, args, kwargs, mask=mask):
                return args, {**kwargs, "attention_mask": mask}

            attention = self.model.model.layers[layer].self_attn
            hooks.append(attention.register_forward_pre_hook(replace_mask, with_kwargs=True))
        out = self.model(torch.tensor([tokens]), output_attentions=True, use_cache=True)
        for hook in hooks:
            hook.remove()
        return out


def windows(masked, out, held):
    """Attention of the last rows over what is held."""
    group = masked.num_heads // masked.num_kv_heads
    A = torch.stack([out.attentions[l][0, :, -WIDE_WINDOW:] for l in masked.layers]).double().numpy()
    A = A * held.repeat(group, axis=1)[:, :, None, :]
    return A / A.sum(-1, keepdims=True)


def evict(masked, policy, tokens, hidden, position):
    """The keep-set of one eviction; None where it hangs on rounding. Hides the rest."""
    out = masked.run(tokens[:position], hidden)
    held = ~hidden[:, :, position, :position]
    A = windows(masked, out, held)
    vnorm = torch.stack([out.past_key_values.layers[l].values[0] for l in masked.layers])
    vnorm = vnorm.norm(dim=-1).numpy()
    selected = PREFILL_SELECTED if position < PROMPT_TOKENS else SELECTED
    budgets = [selected * masked.num_kv_heads] * len(masked.layers)
    ends = np.array([closes_sentence(token) for token in tokens[:position]])

    def keep_of(A):
        return choose(policy, A, held, budgets, masked.num_kv_heads, OBSERVATION_WINDOW, ends, vnorm,
                      PAPER)

    keep = keep_of(A)
    rng = np.random.default_rng(1)
    for _ in range(3):
        other = keep_of(A * (1 + NOISE * rng.uniform(-1, 1, A.shape)))
        if any(not np.array_equal(a, b) for x, y in zip(keep, other) for a, b in zip(x, y)):
            return None
    n = position - OBSERVATION_WINDOW
    for l, layer in enumerate(keep):
        for g, head in enumerate(layer):
            evicted = np.setdiff1d(np.arange(n), head)
            hidden[l, g, position:, evicted] = True
    return sorted(set(int(t) for layer in keep for head in layer for t in head))


def golden_of(name, policy, seed):
    masked = MaskedModel(name)
    rng = np.random.default_rng(seed)
    size = PROMPT_TOKENS + FORCED_TOKENS
    tokens = rng.integers(4, 290, size=size).tolist()
    hidden = np.zeros((len(masked.layers), masked.num_kv_heads, size + 1, size), bool)

    def log_probs():
        logits = masked.run(tokens, hidden).logits[0].log_softmax(-1)
        return [logits[t, tokens[t + 1]].item() for t in range(PROMPT_TOKENS, size - 1)]

    full = np.array(log_probs())
    kept = []
    for position in POSITIONS:
        kept.append(evict(masked, policy, tokens, hidden, position))
        if kept[-1] is None:
            return None
    following = log_probs()
    if np.abs(full - following).max() < MIN_EFFECT:
        return None
    num_layers = masked.model.config.num_hidden_layers
    return {
        "model": name,
        "policy": policy,
        "prompt": tokens[:PROMPT_TOKENS],
        "forced": tokens[PROMPT_TOKENS:],
        "sentence_ends": [token for token in range(masked.model.config.vocab_size)
                          if closes_sentence(token)],
        "evictions": [
            {
                "position": position,
                "layer_budgets": [
                    (PREFILL_SELECTED if position < PROMPT_TOKENS else SELECTED)
                    * masked.num_kv_heads * (layer in masked.layers)
                    for layer in range(num_layers)
                ],
                "kept_candidates": candidates,
            }
            for position, candidates in zip(POSITIONS, kept)
        ],
        "log_probs": [round(value, 5) for value in following],
    }


def main():
    goldens = []
    for name in MODELS:
        for policy in POLICIES:
            found = (golden_of(name, policy, seed) for seed in range(200))
            goldens.append(next(golden for golden in found if golden is not None))
    lines = ",\n".join(json.dumps(golden, separators=(",", ":")) for golden in goldens)
    (HERE / "schedule_goldens.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
