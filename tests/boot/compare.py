#!/usr/bin/env python3
"""compare.py HERE THERE ARRAY LIMIT [QUANTILE]: prints the differences of a float array in two npz files. Ends with 1
when the largest exceeds LIMIT, or when another array that is not float differs. With QUANTILE, only that part of the
x and y of landmarks must be within LIMIT; z is omitted, as in the published errors.
"""
import array
import ast
import sys
import zipfile


def arrays(path):
    with zipfile.ZipFile(path) as archive:
        return {name[:-4]: archive.read(name) for name in archive.namelist()}


def floats(data):
    size = int.from_bytes(data[8:10], "little")
    header = ast.literal_eval(data[10:10 + size].decode("latin1").strip())
    assert header["descr"] == "<f4", header
    return header["shape"], array.array("f", data[10 + size:])


here, there, name, limit = arrays(sys.argv[1]), arrays(sys.argv[2]), sys.argv[3], float(sys.argv[4])
quantile = float(sys.argv[5]) if sys.argv[5:] else 1.0
(shape, a), (other, b) = floats(here[name]), floats(there[name])
if here.keys() != there.keys():
    sys.exit("arrays: %s here, %s there" % (sorted(here), sorted(there)))
if shape != other:
    sys.exit("%s: %s here, %s there" % (name, shape, other))
exact = [key for key in here if b"'<f4'" not in here[key][:128] and here[key] != there[key]]
if exact:
    sys.exit("differ: %s" % exact)
differences = sorted(abs(x - y) for i, (x, y) in enumerate(zip(a, b)) if (x != 0 or y != 0) and (quantile == 1 or i % 3 < 2))
at = lambda part: differences[min(int(part * len(differences)), len(differences) - 1)]
allowed = "allowed %g" % limit + (" for %g %%" % (100 * quantile) if quantile < 1 else "")
name += " x, y" if quantile < 1 else ""
print("%s %s: median difference %.2g, 95 %% %.2g, largest %.2g, %s" % (name, shape, at(0.5), at(0.95), differences[-1], allowed))
sys.exit(at(quantile) > limit)
