"""Case files: what eviction_case.h reads. A line of JSON, then the inputs' bytes, little-endian:

  A      float16 [num_layers, num_heads, num_queries, num_candidates]
  vnorm  float16 [num_layers, num_kv_heads, num_candidates]
  ends   uint8   [num_candidates]
"""

import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent / "oracle"))
import kvec_default  # noqa: E402
import kvec_reference  # noqa: E402


def layer_budgets(case, policy):
    """Entries that each layer selects over all its KV heads."""
    L, T, B, O, G = case["A"].shape[0], case["A"].shape[3], case["B"], case["O"], case["G"]
    if policy == "pyramidkv":
        return [G * k for k in kvec_reference.pyramid_budgets(L, B, O, T)]
    return [G * min(B - O, T - O)] * L


def oracle_keep(case, policy):
    """Candidates kept, list[L] of list[G] of lists."""
    A = case["A"].astype(np.float32)
    L, _, _, T = A.shape
    G, B, O = case["G"], case["B"], case["O"]
    if policy == "kvec":
        keep = kvec_default.kvec(A, G, B, case["ends"], case["vnorm"], O, **case["kvec"])
    elif policy == "kvec-paper":
        keep = kvec_reference.kvec_paper(A, G, B, O, **case["paper"])
    elif policy == "streaming":
        keep = kvec_reference.streaming(L, G, T, B)
    else:
        keep = getattr(kvec_reference, policy)(A, G, B, O)
    return [[[int(t) for t in head if t < T - O] for head in layer] for layer in keep]


def write_case(out, case, policies, keep=None):
    """case: A, G, B, O, and what its policies need: `paper`, or ends, vnorm and `kvec`, which are
    the oracles' arguments. keep: policy -> oracle_keep()."""
    L, H, W, T = case["A"].shape
    G, O = case["G"], case["O"]
    n = T - O
    header = {
        "num_layers": L,
        "num_heads": H,
        "num_kv_heads": G,
        "num_queries": W,
        "prompt_tokens": T,
        "observation_window": O,
        "layer_budgets": {policy: layer_budgets(case, policy) for policy in policies},
        "paper": case.get("paper", {}),
        "kvec": case.get("kvec", {}),
        "keep": keep or {},
    }
    out.write(json.dumps(header, separators=(",", ":")).encode() + b"\n")
    out.write(case["A"][..., :n].astype("<f2").tobytes())
    vnorm = case.get("vnorm", np.zeros((L, G, T)))
    out.write(vnorm[..., :n].astype("<f2").tobytes())
    ends = case.get("ends", np.zeros(T))
    out.write(ends[:n].astype(np.uint8).tobytes())
