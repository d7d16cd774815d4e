"""Oracle of kvec, the default policy; NumPy only, same conventions as kvec_reference.py.

Inputs
  A      float [L, H, W, T]  attention probabilities of the last W >= 16 prompt queries.
  G, B   KV heads; budget per KV head (mean over a layer's heads), the window of O included.
  ends   bool [T]            the token closes a sentence or a line.
  vnorm  float [L, G, T]     L2 norm of each cached value.

With n = T - O, k = min(B - O, n), for every layer l, KV head g and candidate t < n:
  a[g,t] = vnorm[l,g,t] * max over g's query heads of (mean | max over the last 8 queries of A)
  M[g,t] = max of a[g,.] over t's chunk (split after `ends`, at most `cap` tokens)
  D[g,t] = max over u of a[g,u] * .9^|t-u|
  P[g,t] = max(a[g,t], eta * M[g,t]) + 1e-3 * D[g,t]
Budgets: Ada-KV on P: floor(alpha * k) sure per head, the rest of G * k to the best pairs.
Heads choose in order of falling budget (ties: lower head); a head sees P * (1 - c_in) for tokens
already chosen in this layer. The last floor(rho * max(0, b_g - r0)) slots of a head go to the best
P among tokens that no earlier layer and no earlier-served head of this layer holds; if fewer
remain, the rest go to the best P of the others.
Scores are float32, discounts float64; top-k by score descending, ties to the lower index.
"""

import numpy as np

from kvec_reference import keep_all, topk, with_window

SCORING_QUERIES = 8


def chunk_of(ends, n, cap):
    chunk = np.zeros(n, int)
    current = size = 0
    for t in range(n):
        chunk[t] = current
        size += 1
        if ends[t] or size >= cap:
            current += 1
            size = 0
    return chunk


def decay_max(x, gamma):
    gamma = x.dtype.type(gamma)
    forward = x.copy()
    backward = x.copy()
    for t in range(1, x.shape[-1]):
        forward[..., t] = np.maximum(x[..., t], gamma * forward[..., t - 1])
    for t in range(x.shape[-1] - 2, -1, -1):
        backward[..., t] = np.maximum(x[..., t], gamma * backward[..., t + 1])
    return np.maximum(forward, backward)


def score_of(A_layer, G, n, chunk, vnorm, score, eta):
    H, W, _ = A_layer.shape
    queries = A_layer[:, W - SCORING_QUERIES :, :n].astype(np.float32)
    heads = queries.max(1) if score == "max8" else queries.mean(1, dtype=np.float32)
    a = heads.reshape(G, H // G, n).max(1) * vnorm[:, :n].astype(np.float32)
    M = np.empty_like(a)
    for j in range(chunk[-1] + 1):
        inside = np.flatnonzero(chunk == j)
        M[:, inside] = a[:, inside].max(1, keepdims=True)
    return np.maximum(a, np.float32(eta) * M) + np.float32(1e-3) * decay_max(a, 0.9)


def head_budgets(P, k, alpha):
    G, n = P.shape
    raised = P.copy()
    for g in range(G):
        raised[g, topk(P[g], int(alpha * k))] = np.inf
    return np.bincount(topk(raised.reshape(-1), G * k) // n, minlength=G)


def kvec(A, G, B, ends, vnorm, O=16, score="mean8", eta=0.2, alpha=0.2, c_in=0.3, rho=0.1,
         r0=48, cap=48, adaptive=True):
    L, _, _, T = A.shape
    if T <= O or B >= T:
        return keep_all(L, G, T)
    n = T - O
    k = min(B - O, n)
    chunk = chunk_of(ends, n, cap)
    held = np.zeros(n, bool)  # by some head of an earlier layer
    keep = []
    for l in range(L):
        P = score_of(A[l], G, n, chunk, vnorm[l], score, eta)
        budgets = head_budgets(P, k, alpha) if adaptive else np.full(G, k)
        taken = np.zeros(n, bool)  # by a head of this layer that chose before
        layer_keep = [None] * G
        for g in np.argsort(-budgets, kind="stable"):
            s = P[g].astype(np.float64)
            s = np.where(taken, s * (1 - c_in), s)
            reserved = int(rho * max(0, budgets[g] - r0))
            selected = topk(s, budgets[g] - reserved)
            if reserved:
                # Unheld ones first, then the best of the rest.
                order = np.lexsort((np.arange(n), -s, held | taken))
                others = order[~np.isin(order, selected)]
                selected = np.concatenate([selected, others[:reserved]])
            taken[selected] = True
            layer_keep[g] = selected
        held |= taken
        keep.append([with_window(selected, n, T) for selected in layer_keep])
    return keep
