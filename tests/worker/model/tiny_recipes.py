"""Recipes of the tiny random models: one per model family and trap of real checkpoints.

A recipe's config is written to config.json as it stands, in the form that published checkpoints
have: most as transformers 4 wrote it, one as transformers 5 does. `mutations` are wrong readings of
the model that an engine could make; make_tiny_models.py proves that each moves the goldens.
"""

import dataclasses
from typing import Any

import torch

VOCAB_SIZE = 300
CONTEXT_LENGTH = 256
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A wrong reading: config fields replaced, and tensors whose name ends so set to one value."""

    name: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    fill_suffix: str = ""
    fill_value: float = 0.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    name: str
    seed: int
    dtype: torch.dtype
    num_shards: int  # safetensors files; beyond one with an index
    tokenizer: str  # "gpt2", "llama3", "qwen2": which pre-tokenizer tokenizer.json has
    config: dict[str, Any]
    mutations: tuple[Mutation, ...]


def _config(architecture: str, model_type: str, **fields) -> dict[str, Any]:
    config = dict(
        architectures=[architecture],
        model_type=model_type,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        hidden_act="silu",
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=3,
        rms_norm_eps=1e-5,
        attention_dropout=0.0,
        use_cache=True,
    )
    config.update(fields)
    return config


# As SmolLM2: tied embeddings, no head_dim in config.json.
LLAMA = Recipe(
    "llama",
    1,
    torch.bfloat16,
    1,
    "gpt2",
    _config(
        "LlamaForCausalLM",
        "llama",
        hidden_size=64,
        intermediate_size=96,
        attention_bias=False,
        mlp_bias=False,
        rope_theta=10000.0,
        rope_scaling=None,
        tie_word_embeddings=True,
        torch_dtype="bfloat16",
    ),
    (Mutation("rope_theta", {"rope_theta": 100000.0}),),
)

# As Llama 3.x: untied, RoPE scaled in three zones. Eight times 32 positions: of the wavelengths
# 6.3, 19.9, 62.8 … the first is kept, the second interpolated, the others divided by 8.
LLAMA3 = Recipe(
    "llama3",
    2,
    torch.float32,
    2,
    "llama3",
    _config(
        "LlamaForCausalLM",
        "llama",
        hidden_size=32,
        intermediate_size=64,
        head_dim=16,
        attention_bias=False,
        mlp_bias=False,
        rope_theta=10000.0,
        rope_scaling=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
        tie_word_embeddings=False,
        torch_dtype="float32",
    ),
    (
        Mutation("rope_scaling", {"rope_scaling": None}),
        Mutation("linear_scaling", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ),
)

# As Mistral: untied, every layer with a sliding window, head_dim wider than hidden / heads (Nemo).
MISTRAL = Recipe(
    "mistral",
    3,
    torch.float16,
    1,
    "llama3",
    _config(
        "MistralForCausalLM",
        "mistral",
        hidden_size=64,
        intermediate_size=64,
        head_dim=16,
        num_attention_heads=6,
        sliding_window=16,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        torch_dtype="float16",
    ),
    (
        Mutation("sliding_window", {"sliding_window": None}),
        Mutation("sliding_window_off_by_one", {"sliding_window": 17}),
    ),
)

# As Qwen2.5: biases on q, k, v; tied; a sliding_window in config.json that is not used.
QWEN2 = Recipe(
    "qwen2",
    14,
    torch.bfloat16,
    1,
    "qwen2",
    _config(
        "Qwen2ForCausalLM",
        "qwen2",
        hidden_size=64,
        intermediate_size=96,
        rms_norm_eps=1e-6,
        rope_theta=1000000.0,
        sliding_window=8,
        max_window_layers=0,
        use_sliding_window=False,
        tie_word_embeddings=True,
        torch_dtype="bfloat16",
    ),
    (
        Mutation("attention_bias", fill_suffix="_proj.bias"),
        Mutation("use_sliding_window", {"use_sliding_window": True}),
    ),
)

# As Qwen3: QK norm, head_dim apart from hidden / heads; config.json as transformers 5 writes it.
QWEN3 = Recipe(
    "qwen3",
    5,
    torch.float32,
    1,
    "qwen2",
    _config(
        "Qwen3ForCausalLM",
        "qwen3",
        hidden_size=32,
        intermediate_size=64,
        head_dim=32,
        attention_bias=False,
        rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        layer_types=["full_attention"] * 3,
        sliding_window=None,
        use_sliding_window=False,
        tie_word_embeddings=True,
        dtype="float32",
    ),
    (
        Mutation("q_norm", fill_suffix="q_norm.weight", fill_value=1.0),
        Mutation("rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    ),
)

# As Gemma 3: windowed and full layers with a RoPE of their own each, the full ones scaled (4B and
# larger), post norms, scaled tied embeddings, attention scale apart from head_dim (27B).
GEMMA3 = Recipe(
    "gemma3",
    6,
    torch.bfloat16,
    1,
    "gpt2",
    _config(
        "Gemma3ForCausalLM",
        "gemma3_text",
        hidden_size=32,
        intermediate_size=96,
        head_dim=32,
        num_hidden_layers=4,
        hidden_activation="gelu_pytorch_tanh",
        rms_norm_eps=1e-6,
        attention_bias=False,
        query_pre_attn_scalar=20,
        sliding_window=8,
        layer_types=[
            "sliding_attention",
            "sliding_attention",
            "full_attention",
            "sliding_attention",
        ],
        rope_theta=100000.0,
        rope_local_base_freq=10000.0,
        rope_scaling=dict(rope_type="linear", factor=4.0),
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        tie_word_embeddings=True,
        torch_dtype="bfloat16",
    ),
    (
        Mutation("sliding_window", {"sliding_window": CONTEXT_LENGTH}),
        Mutation("sliding_window_off_by_one", {"sliding_window": 9}),
        Mutation("layer_types", {"layer_types": ["sliding_attention"] * 3 + ["full_attention"]}),
        Mutation("rope_local_base_freq", {"rope_local_base_freq": 100000.0}),
        Mutation("rope_scaling", {"rope_scaling": None}),
        Mutation("query_pre_attn_scalar", {"query_pre_attn_scalar": 32}),
        Mutation("hidden_activation", {"hidden_activation": "silu"}),
        Mutation("post_norms", fill_suffix="post_feedforward_layernorm.weight"),
    ),
)

RECIPES = (LLAMA, LLAMA3, MISTRAL, QWEN2, QWEN3, GEMMA3)
