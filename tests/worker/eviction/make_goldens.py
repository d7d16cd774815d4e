#!/usr/bin/env python3
"""Writes golden/*.case from a folder of .npz files, as the method's development left them.

    make_goldens.py FOLDER     FOLDER holds golden_case1..5.npz and golden_default1..5.npz

Checks that the oracles beside this script keep what the .npz files say, and cuts what no policy
reads: layers after the third, older queries, the observation window's columns.
"""

import json
import pathlib
import sys

import numpy as np

from case_file import oracle_keep, write_case

MAX_LAYERS = 3
PAPER_POLICIES = ["streaming", "snapkv", "pyramidkv", "adasnapkv", "kvec-paper"]
KVEC_ARGUMENTS = ["score", "eta", "c_in", "rho", "r0", "cap"]


def expect_masks(keep, packed, O, T, what):
    """packed: [L, G, ceil(T / 8)] bits; layers beyond those kept are not compared."""
    masks = np.unpackbits(packed, axis=-1, count=T).astype(bool)
    for l, layer in enumerate(keep):
        for g, kept in enumerate(layer):
            expected = np.flatnonzero(masks[l, g, : T - O]).tolist()
            if sorted(kept) != expected:
                sys.exit(f"{what}: layer {l}, head {g}: the oracle differs from the file")


def paper_case(file):
    params = json.loads(str(file["params"]))
    case = {
        "A": file["A"][:MAX_LAYERS, :, -max(params["O"], params["O2"]) :],
        "G": params["G"],
        "B": params["B"],
        "O": params["O"],
        "paper": {name: params[name] for name in ("O2", "delta", "lam", "beta")},
    }
    keep = {policy: oracle_keep(case, policy) for policy in PAPER_POLICIES}
    for policy in ("streaming", "snapkv", "adasnapkv"):
        expect_masks(keep[policy], file[policy], case["O"], int(file["T"]), policy)
    expect_masks(keep["kvec-paper"], file["kvec"], case["O"], int(file["T"]), "kvec-paper")
    return case, keep


def default_case(file):
    params = json.loads(str(file["params"]))
    case = {
        "A": file["A"][:MAX_LAYERS, :, -params["Os"] :],
        "G": params["G"],
        "B": params["B"],
        "O": params["O"],
        "ends": file["ends"],
        "vnorm": file["vnorm"][:MAX_LAYERS],
        "kvec": {name: params[name] for name in KVEC_ARGUMENTS},
    }
    keep = {"kvec": oracle_keep(case, "kvec")}
    expect_masks(keep["kvec"], file["keep"], case["O"], int(file["T"]), "kvec")
    return case, keep


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    golden = pathlib.Path(__file__).parent / "golden"
    for kind, read in (("case", paper_case), ("default", default_case)):
        for number in range(1, 6):
            case, keep = read(np.load(folder / f"golden_{kind}{number}.npz"))
            name = f"{'paper' if kind == 'case' else 'kvec'}{number}.case"
            with open(golden / name, "wb") as out:
                write_case(out, case, list(keep), keep)


if __name__ == "__main__":
    main()
