"""Oracle of evictions that follow others: the KV heads of a layer hold different tokens. NumPy only.

Everything is as in kvec_reference.py and kvec_default.py, over all tokens so far, with two changes:
attention falls only on what a head holds, and what it does not hold is never chosen.

Inputs
  A        float [L, H, W, T]  probabilities of the last W queries over what their KV heads hold.
  held     bool [L, G, T]      the last O tokens are held by every head.
  budgets  int [L]             entries that a layer's heads select together.
Output
  keep     list[L] of list[G] of sorted candidates.
"""

import numpy as np

from kvec_default import chunk_of, score_of
from kvec_reference import base_score, topk

SURE = 0.2


def best(score, k):
    """topk without what is not held."""
    order = topk(score, k)
    return order[score[order] > -np.inf]


def across_heads(P, budget):
    """Ada-KV: the layer's slots go to the best (head, token) pairs, a fifth of k is sure."""
    G, n = P.shape
    raised = P.copy()
    for g in range(G):
        raised[g, best(P[g], int(SURE * (budget // G)))] = np.inf
    flat = best(raised.reshape(-1), budget)
    return [flat[flat // n == g] % n for g in range(G)]


def streaming(held, budgets, n, sink=4):
    keep = []
    for layer, budget in zip(held, budgets):
        k = budget // len(layer)
        tokens = [np.flatnonzero(head[:n]) for head in layer]
        keep.append([np.concatenate([t[: min(sink, k)], t[len(t) - max(0, k - sink) :]])
                     for t in tokens])
    return keep


def snapkv(A, held, budgets, G, O, n):
    keep = []
    for l, budget in enumerate(budgets):
        P = np.where(held[l, :, :n], base_score(A[l], G, O, n), -np.inf)
        keep.append([best(P[g], budget // G) for g in range(G)])
    return keep


def adasnapkv(A, held, budgets, G, O, n):
    return [
        across_heads(np.where(held[l, :, :n], base_score(A[l], G, O, n), -np.inf), budget)
        for l, budget in enumerate(budgets)
    ]


def kvec_paper(A, held, budgets, G, O, n, O2, delta, lam, beta):
    n_sel = np.zeros(n)
    keep = []
    for l, budget in enumerate(budgets):
        k = budget // G
        P = base_score(A[l], G, O, n)
        sigma = np.array([P[g, held[l, g, :n]].std(dtype=np.float64) for g in range(G)])
        low = np.argsort(sigma.astype(np.float32), kind="stable")[:delta]
        P[low] = base_score(A[l], G, O2, n)[low]
        P = np.where(held[l, :, :n], P, -np.inf)
        I = A[l][:, A.shape[2] - O :, :n].max(0).mean(0)
        S = P + lam * (I * (1.0 - n_sel / (l + 1)))
        layer_keep = []
        for g in range(G):
            s = S[g].copy()
            s[best(P[g], int(np.floor(beta * k)))] = 1.0 + lam
            layer_keep.append(best(s, k))
        n_sel[np.unique(np.concatenate(layer_keep))] += 1
        keep.append(layer_keep)
    return keep


def kvec(A, held, budgets, G, n, ends, vnorm, eta=0.2, c_in=0.3, rho=0.1, r0=48, cap=48):
    chunk = chunk_of(ends, n, cap)
    covered = np.zeros(n, bool)
    keep = []
    for l, budget in enumerate(budgets):
        norms = np.where(held[l], vnorm[l], 0)
        P = np.where(held[l, :, :n], score_of(A[l], G, n, chunk, norms, "mean8", eta), -np.inf)
        sizes = np.array([len(head) for head in across_heads(P, budget)])
        taken = np.zeros(n, bool)
        layer_keep = [None] * G
        for g in np.argsort(-sizes, kind="stable"):
            s = np.where(taken, P[g].astype(np.float64) * (1 - c_in), P[g].astype(np.float64))
            reserved = int(rho * max(0, sizes[g] - r0))
            selected = best(s, sizes[g] - reserved)
            order = np.lexsort((np.arange(n), -s, covered | taken))
            others = order[~np.isin(order, selected) & (s[order] > -np.inf)]
            selected = np.concatenate([selected, others[:reserved]])
            taken[selected] = True
            layer_keep[g] = selected
        covered |= taken
        keep.append(layer_keep)
    return keep


def choose(policy, A, held, budgets, G, O, ends, vnorm, paper):
    n = A.shape[-1] - O
    if policy == "streaming":
        keep = streaming(held, budgets, n)
    elif policy in ("snapkv", "pyramidkv"):
        keep = snapkv(A, held, budgets, G, O, n)
    elif policy == "adasnapkv":
        keep = adasnapkv(A, held, budgets, G, O, n)
    elif policy == "kvec-paper":
        keep = kvec_paper(A, held, budgets, G, O, n, **paper)
    else:
        keep = kvec(A, held, budgets, G, n, ends, vnorm)
    return [[np.sort(head) for head in layer] for layer in keep]
