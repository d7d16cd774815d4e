"""Oracle of kvec-paper and of the baselines. NumPy only; written for reading, not for speed.

Inputs
  A   float [L, H, W, T]  attention probabilities of the last W prompt queries (row W-1: the last
                          prompt token) over all keys; a query does not see later keys, they are 0.
  G   KV heads; query head h reads KV head h // (H // G).
  B   budget per KV head, the observation window of the last O tokens included.
Output
  keep  list[L] of list[G] of sorted int arrays: positions kept, window included.

What the paper leaves open:
  * top-k: score descending, ties to the lower index; k >= n keeps all.
  * candidates are 0 .. T-O-1; the last O tokens are always kept and take part in no statistic.
  * a KV head's score is the mean over its query heads.
  * max pooling (kernel 7, real entries only at the borders) comes after that mean and before
    the standard deviation and top-k.
  * a widened head averages its last O2 queries over the same candidates.
  * coverage in layer l counts layers 0 .. l-1 and divides by l+1.
  * forced in: floor(beta * k) raw-top tokens of each head; their score becomes 1 + lam, an upper
    bound of P + lam * I.
"""

import numpy as np


def keep_all(num_layers, G, T):
    return [[np.arange(T) for _ in range(G)] for _ in range(num_layers)]


def topk(score, k):
    """Indices of the k largest; ties to the lower index."""
    return np.argsort(-score, kind="stable")[: max(0, k)]


def max_pool(x, kernel=7):
    """Same-length 1-D max pooling over the last axis."""
    radius = kernel // 2
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)], constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=-1).max(-1)


def base_score(A_layer, G, O, num_candidates):
    """SnapKV's score over the candidates, from the last O queries: [H, W, T] -> [G, n]."""
    H, W, _ = A_layer.shape
    n = num_candidates
    P = A_layer[:, W - O :, :n].mean(1).reshape(G, H // G, n).mean(1)
    return max_pool(P)


def kvec_paper(A, G, B, O=16, O2=32, delta=1, lam=1.0, beta=0.25):
    """delta: number of KV heads widened (the paper: 3 of 8)."""
    L, _, W, T = A.shape
    if T <= O or B >= T:
        return keep_all(L, G, T)
    n = T - O
    k = min(B - O, n)
    n_sel = np.zeros(n)  # in how many layers so far some head selected the token
    keep = []
    for l in range(L):
        P = base_score(A[l], G, O, n)
        # Cross-head: the delta heads with the lowest deviation look through a wider window.
        # Rounded to float32, so that what differs by the order of a sum only is a tie.
        sigma = P.std(1, dtype=np.float64).astype(np.float32)
        low = np.argsort(sigma, kind="stable")[:delta]
        P[low] = base_score(A[l], G, O2, n)[low]
        # Cross-layer: mean over the window of the maximum over query heads, where not covered.
        I = A[l][:, W - O :, :n].max(0).mean(0)
        S = P + lam * (I * (1.0 - n_sel / (l + 1)))
        num_forced = int(np.floor(beta * k))
        layer_keep = []
        for g in range(G):
            s = S[g].copy()
            s[topk(P[g], num_forced)] = 1.0 + lam
            layer_keep.append(topk(s, k))
        n_sel[np.unique(np.concatenate(layer_keep))] += 1
        keep.append([with_window(selected, n, T) for selected in layer_keep])
    return keep


def snapkv(A, G, B, O=16):
    L, _, _, T = A.shape
    if T <= O or B >= T:
        return keep_all(L, G, T)
    n = T - O
    return [
        [with_window(topk(score, B - O), n, T) for score in base_score(A[l], G, O, n)]
        for l in range(L)
    ]


def pyramidkv(A, G, B, O=16):
    L, _, _, T = A.shape
    budgets = pyramid_budgets(L, B, O, T)
    return [snapkv(A[l : l + 1], G, O + budgets[l], O)[0] for l in range(L)]


def adasnapkv(A, G, B, O=16, alpha=0.2):
    """A layer's G·k slots go to the best (head, token) pairs; floor(alpha·k) are sure per head."""
    L, _, _, T = A.shape
    if T <= O or B >= T:
        return keep_all(L, G, T)
    n = T - O
    k = B - O
    keep = []
    for l in range(L):
        P = base_score(A[l], G, O, n)
        for g in range(G):
            P[g, topk(P[g], int(alpha * k))] = np.inf
        flat = topk(P.reshape(-1), G * k)
        keep.append([with_window(flat[flat // n == g] % n, n, T) for g in range(G)])
    return keep


def pyramid_budgets(L, B, O, T, beta=20):
    """Selected entries per layer: linear from the first to the last layer, mean B - O."""
    base = B - O
    n = T - O
    if L == 1 or base >= n:
        return [min(base, n)] * L
    low = base / beta
    high = 2 * base - low
    if high > n:
        high = n
        low = 2 * base - high
    return [int(round(high - (high - low) * l / (L - 1))) for l in range(L)]


def streaming(L, G, T, B, sink=4):
    kept = np.arange(T)
    if B < T:
        kept = np.concatenate([np.arange(sink), np.arange(T - (B - sink), T)])
    return [[kept for _ in range(G)] for _ in range(L)]


def with_window(selected, n, T):
    return np.sort(np.concatenate([selected, np.arange(n, T)]))
