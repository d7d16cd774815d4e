#!/usr/bin/env python3
"""Random cases through the policies (run_policies) and the NumPy oracles: equal keep-sets.

    policy_live_test.py RUN_POLICIES [NUM_CASES [SEED]]

Exits with 77, a skip for CTest, where there is no NumPy; KVEC_TEST_PYTHON may name a Python that
has it.
"""

import json
import os
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    python = os.environ.get("KVEC_TEST_PYTHON", sys.executable)
    if python != sys.executable:
        os.execv(python, [python, *sys.argv])
    print(f"SKIPPED: {sys.executable} has no NumPy, and KVEC_TEST_PYTHON names no other Python")
    sys.exit(77)

from case_file import oracle_keep, write_case

POLICIES = ["streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper", "kvec"]
MAX_ATTENTION = 6_000_000  # numbers in A: keeps a case below a second


def random_attention(rng, shape, T):
    """Attention of the last queries, causal; smooth, peaked, or full of ties."""
    L, H, W, _ = shape
    kind = rng.choice(["smooth", "peaked", "quantised", "sparse"])
    scores = rng.normal(size=shape) * (6 if kind == "peaked" else 1.5)
    scores += rng.normal(size=(L, H, 1, T)) * 2
    visible = np.arange(T)[None, :] <= (T - W + np.arange(W))[:, None]
    scores[:, :, ~visible] = -np.inf
    A = np.exp(scores - scores.max(-1, keepdims=True))
    if kind == "quantised":
        return np.round(A * 8) / 64 * visible
    if kind == "sparse":
        return (A > 0.9) * visible / 64
    return A / A.sum(-1, keepdims=True)


def random_case(rng):
    T = int(rng.choice([rng.integers(3, 40), rng.integers(40, 400), rng.integers(400, 4097)]))
    G = int(rng.integers(1, 9))
    group = int(rng.choice([1, 2, 3, 4, 7]))
    O = int(rng.choice([1, 4, 8, 16, 32]))
    O = min(O, T - 2)
    W = min(T, max(8, O, int(rng.choice([32, 48]))))
    L = int(rng.integers(1, 33))
    L = max(1, min(L, MAX_ATTENTION // (G * group * W * T)))
    B = int(rng.integers(O + 1, T))
    if rng.random() < 0.5:
        B = min(B, O + 200)
    return {
        "A": random_attention(rng, (L, G * group, W, T), T).astype(np.float16),
        "G": G,
        "B": B,
        "O": O,
        "ends": rng.random(T) < rng.choice([0, 0.05, 0.3]),
        "vnorm": rng.choice([np.ones((L, G, T)), rng.uniform(0.5, 3, (L, G, T))]),
        "paper": {
            "O2": int(rng.integers(O, W + 1)),
            "delta": int(rng.integers(0, G + 1)),
            "lam": float(rng.choice([0, 0.5, 1, 2, np.float32(0.3)])),
            "beta": float(rng.choice([0, 0.25, 0.5, 1, np.float32(0.1)])),
        },
        "kvec": {"adaptive": bool(rng.random() < 0.8)},
    }


def main():
    num_cases = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    run = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    differences = 0
    for number in range(num_cases):
        case = random_case(np.random.default_rng([seed, number]))
        case["vnorm"] = case["vnorm"].astype(np.float16)
        L, H, W, T = case["A"].shape
        policies = POLICIES
        if case["B"] < case["O"] + 4 or case["B"] - case["O"] < 4:
            # The oracle's sinks would push entries of the window out.
            policies = POLICIES[1:]
        if W < 8:  # kvec's oracle wants 8 queries
            policies = [policy for policy in policies if policy != "kvec"]
        write_case(run.stdin, case, policies)
        run.stdin.flush()
        line = run.stdout.readline()
        if not line:
            sys.exit(f"case {number}: run_policies ended with {run.wait()}")
        actual = json.loads(line)
        for policy in policies:
            expected = oracle_keep(case, policy)
            if actual[policy] != expected:
                differences += 1
                print(f"case {number}: {policy} differs: L={L} H={H} G={case['G']} W={W} T={T} "
                      f"O={case['O']} B={case['B']} {case['paper']} {case['kvec']}")
    run.stdin.close()
    if run.wait() != 0 or differences:
        sys.exit(f"seed {seed}: {differences} keep-sets differ")
    print(f"{num_cases} cases of seed {seed}: all keep-sets are equal")


if __name__ == "__main__":
    main()
